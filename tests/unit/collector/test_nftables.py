# SPDX-License-Identifier: Apache-2.0
"""nftables' JSON of a real kube-proxy (test_drift.py compares it with its objects), and worse."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from collector.node.nat import Backend, parse_nat
from collector.node.nftables import parse_nft

DATA = Path(__file__).parents[2] / "data" / "nat"
RECORDED = (DATA / "nftables-n1.json").read_text()


def test_recording_has_services_back_ends_and_whom_is_masqueraded() -> None:
    found = {(each.name, each.kind, each.port): each for each in parse_nft(RECORDED, "ipv4").services}
    local = found["default/local", "node-port", 30081]
    assert (local.address, local.protocol, local.masquerade) == ("", "tcp", "")
    assert local.backends == (Backend("10.244.0.2", 80, 0.5), Backend("10.244.0.3", 80, 0.5))
    assert found["default/nodeport", "node-port", 30080].masquerade == "always"
    assert found["default/two-ports", "cluster-ip", 53].protocol == "udp"
    assert found["", "cluster-ip", 80].backends == (), "the one without endpoints"


def test_flannels_masquerading_is_told() -> None:
    chains = {each.chain for each in parse_nft(RECORDED, "ipv4").masquerades}
    assert chains == {"masquerading", "postrtg"}


def test_other_family_has_its_own_rules() -> None:
    assert parse_nft(RECORDED, "ipv6").services == ()


def test_translation_of_somebody_else_is_counted() -> None:
    expr = [{"match": {}}, {"dnat": {"addr": "10.0.0.9", "port": 80}}]
    rule = {"rule": {"family": "ip", "table": "mine", "chain": "pre", "expr": expr}}
    found = parse_nft(json.dumps({"nftables": [rule]}), "ipv4")
    assert (found.not_understood, len(found.examples)) == (1, 1)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"nftables": 5}', "[" * 100_000])
def test_what_is_no_ruleset_is_not_read_with_a_reason(text: str) -> None:
    found = parse_nft(text, "ipv4")
    assert not found.read
    assert found.reason


def test_chains_that_go_in_circles_end() -> None:
    rules = [
        {"rule": {"family": "ip", "table": "kube-proxy", "chain": name, "expr": [{"goto": {"target": to}}]}}
        for name, to in (
            ("service-X-a/b/tcp/", "service-Y-a/b/tcp/"),
            ("service-Y-a/b/tcp/", "service-X-a/b/tcp/"),
        )
    ]
    elem = [[{"concat": ["10.96.0.1", "tcp", 80]}, {"goto": {"target": "service-X-a/b/tcp/"}}]]
    entry = {"map": {"family": "ip", "table": "kube-proxy", "name": "service-ips", "elem": elem}}
    [found] = parse_nft(json.dumps({"nftables": [*rules, entry]}), "ipv4").services
    assert found.backends == ()


def _mutated(value: Any, rng: random.Random) -> Any:  # noqa: ANN401  JSON
    """The same with something else somewhere."""
    if rng.random() < 0.01:
        return rng.choice([None, 5, -1, "x" * 50, [], {}, [[]], True, 1e300, {"goto": 5}, "../../etc"])
    if isinstance(value, dict):
        return {key: _mutated(each, rng) for key, each in value.items() if rng.random() > 0.002}
    if isinstance(value, list):
        return [_mutated(each, rng) for each in value if rng.random() > 0.002]
    return value


def test_mutated_rulesets_never_raise_nor_take_long() -> None:
    rng, whole = random.Random(7), json.loads(RECORDED)
    began_s = time.process_time()
    for _ in range(150):
        found = parse_nft(json.dumps(_mutated(whole, rng)), "ipv4")
        for each in found.services:
            assert sum(backend.share for backend in each.backends) <= 1.001
    assert time.process_time() - began_s < 20


def test_mutated_iptables_never_raise_nor_take_long() -> None:
    rng = random.Random(8)
    lines = (DATA / "iptables-n1.txt").read_text().splitlines()
    words = [
        "-j",
        "!",
        '"',
        "KUBE-SVC-XXXX",
        "--to-destination",
        "999.9.9.9:99999",
        "--probability",
        "-5",
        "\x00",
        "é" * 30,
    ]
    began_s = time.process_time()
    for _ in range(150):
        changed = []
        for line in lines:
            if rng.random() < 0.02:
                continue
            parts = line.split(" ")
            if rng.random() < 0.05:
                parts[rng.randrange(len(parts))] = rng.choice(words)
            changed.append(" ".join(parts))
        rng.shuffle(changed) if rng.random() < 0.1 else None
        found = parse_nat("\n".join(changed))
        for each in found.services:
            assert sum(backend.share for backend in each.backends) <= 1.001
    assert time.process_time() - began_s < 20


def test_ten_thousand_services_are_read_in_seconds() -> None:
    entries: list[Any] = []
    elements = []
    for at in range(10_000):
        chain, endpoint = f"service-H{at}-ns/s{at}/tcp/", f"endpoint-H{at}"
        goto = [[0, {"goto": {"target": endpoint}}]]
        vmap = {"vmap": {"key": {}, "data": {"set": goto}}}
        for name, expr in ((chain, [vmap]), (endpoint, [{"dnat": {"addr": "10.0.0.1", "port": 80}}])):
            entries.append({"rule": {"family": "ip", "table": "kube-proxy", "chain": name, "expr": expr}})
        elements.append(
            [{"concat": [f"10.96.{at // 256}.{at % 256}", "tcp", 80]}, {"goto": {"target": chain}}]
        )
    entries.append({"map": {"family": "ip", "table": "kube-proxy", "name": "service-ips", "elem": elements}})
    text = json.dumps({"nftables": entries})
    began_s = time.process_time()
    found = parse_nft(text, "ipv4")
    assert time.process_time() - began_s < 2
    assert len(found.services) == 10_000
    assert found.not_understood == 0
