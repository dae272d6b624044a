# SPDX-License-Identifier: Apache-2.0
"""Rules that somebody broke, or wrote to break their reader: never an exception, never long, nothing lost.

Which rules translate is found out by a search of its own: each is told as a back end, or counted.
"""

import json
import random
import re
import time
from collections.abc import Iterable
from typing import Any

import pytest

from collector.node.iptables_nat import parse_nat
from collector.node.nat import NatRules
from collector.node.nftables import parse_nft
from tests.unit.collector import recorded

ALL = 1_000_000
ROUNDS = 50
WORDS = [
    "-j", "-g", "!", '"', "\\", "KUBE-SVC-XXXX", "DNAT", "REDIRECT", "--to-destination", "999.9.9.9:99999",
    "10.0.0.1-10.0.0.9:80", "[::1]:80", "--probability", "-5", "nan", "1e309", "\x00", "é" * 30,
    "--dport", "70000", "٣", "1:65535", "--comment", "-A", "COMMIT", "*nat", "-d", "0.0.0.0/0", "10.0.0.1/99",
    "RETURN", "-m", "--rcheck", "PREROUTING", "KUBE-SERVICES", "--seconds", "9" * 40,
]  # fmt: skip
VALUES: list[Any] = [
    None, 5, -1, 0, True, 1e300, "", "x" * 50, "@nowhere", [], {}, [[]], {"goto": 5},
    {"goto": {"target": "services"}}, {"dnat": {"addr": "10.9.9.9", "port": 1}}, {"redirect": {"port": 1}},
    {"set": [1, 2]}, {"prefix": {"addr": "::", "len": "x"}},
    {"range": [1, 2]}, {"concat": [1, {}]}, {"elem": {"val": {"concat": ["a"]}}}, "../../etc",
]  # fmt: skip
_RULE = re.compile(r"^-A (\S+) ")
_TRANSLATES = re.compile(r" -[jg] (DNAT|REDIRECT|NETMAP)( |$)")


def plausible(found: NatRules) -> None:
    for each in found.services:
        assert sum(backend.share for backend in each.backends) <= 1.0001
        assert all(0 <= backend.port < 65536 and 0 <= backend.share <= 1 for backend in each.backends)
        assert 0 <= each.port < 65536
        assert not (each.refused and each.backends)
    assert len(found.examples) == found.not_understood


def targets(found: NatRules) -> set[str]:
    return {
        f"[{one.address}]:{one.port}" if ":" in one.address else f"{one.address}:{one.port}"
        for each in found.services
        for one in each.backends
    }


def reachable(rules: list[str], chains: Iterable[str]) -> set[str]:
    """Chains that packets come to from some, whatever the conditions."""
    found, waiting = set(), list(chains)
    while waiting:
        chain = waiting.pop()
        if chain not in found:
            found.add(chain)
            waiting += [
                target
                for rule in rules
                if rule.startswith(f"-A {chain} ")
                for target in re.findall(r" -[jg] (\S+)", rule)
            ]
    return found


def changed(lines: list[str], rng: random.Random) -> list[str]:
    found = []
    for line in lines:
        if rng.random() < 0.02:
            continue
        words = line.split(" ")
        if rng.random() < 0.05:
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        if rng.random() < 0.02:
            one, other = rng.randrange(len(words)), rng.randrange(len(words))
            words[one], words[other] = words[other], words[one]
        if rng.random() < 0.02:
            words = words[: rng.randrange(1, len(words) + 1)]
        found.append(" ".join(words))
    if rng.random() < 0.1:
        rng.shuffle(found)
    return found


@pytest.mark.parametrize("file", ["iptables-n1.txt", "ip6tables-n2.txt"])
def test_broken_iptables_are_told_or_counted(file: str) -> None:
    rng = random.Random(file)
    lines = (recorded.DATA / file).read_text().splitlines()
    began_s = time.process_time()
    for _ in range(ROUNDS):
        found = parse_nat("\n".join(changed(lines, rng)), max_examples=ALL)
        plausible(found)
    assert time.process_time() - began_s < 30


@pytest.mark.parametrize("file", ["iptables-n1.txt", "iptables-n2.txt", "ip6tables-n1.txt"])
def test_every_translation_of_the_nat_table_is_told_or_counted(file: str) -> None:
    """Rules are taken away and jumps sent elsewhere; each line stays a rule that can be searched for."""
    rng = random.Random(file)
    text = (recorded.DATA / file).read_text().partition("*nat")[2].partition("COMMIT")[0]
    rules = [line for line in text.splitlines() if _RULE.match(line)]
    chains = sorted({line.split()[1] for line in rules})
    for _ in range(ROUNDS):
        some = [rule for rule in rules if rng.random() > 0.02]
        some = [
            re.sub(r" -j KUBE-\S+", f" -j {rng.choice(chains)}", rule) if rng.random() < 0.02 else rule
            for rule in some
        ]
        found = parse_nat("\n".join(["*nat", *some, "COMMIT"]), max_examples=ALL)
        plausible(found)
        told, counted = targets(found), set(found.examples)
        reached = reachable(some, ("PREROUTING", "OUTPUT"))
        behind = reachable(some, (rule.rsplit(" ", 1)[1] for rule in counted))
        for rule in some:
            chain, target = rule.split()[1], rule.rsplit(" ", 1)[1]
            if _TRANSLATES.search(rule) and chain in reached and rule not in counted:
                assert target in told or chain in behind or is_for_pods_only(chain, some), rule


def is_for_pods_only(chain: str, rules: list[str]) -> bool:
    """With externalTrafficPolicy Local pods alone come to the other nodes' back ends by a node port."""
    callers = [each.split()[1] for each in rules if each.endswith((f" -j {chain}", f" -g {chain}"))]
    return all(caller.startswith("KUBE-SVC-") for caller in callers)


def mutated(value: Any, rng: random.Random) -> Any:  # noqa: ANN401  JSON
    """The same with something else somewhere."""
    if rng.random() < 0.004:
        return rng.choice(VALUES)
    if isinstance(value, dict):
        return {key: mutated(each, rng) for key, each in value.items() if rng.random() > 0.001}
    if isinstance(value, list):
        return [mutated(each, rng) for each in value if rng.random() > 0.001]
    return value


def translations(entries: list[Any]) -> set[str]:
    """Where every dnat of IPv4 leads that is in a chain with a way from prerouting, on any condition."""
    own = [each for each in entries if next(iter(each.values())).get("family") == "ip"]
    said: dict[str, str] = {}
    for each in own:
        [(kind, value)] = each.items()
        place = f"@{value['name']}" if kind == "map" else value.get("chain") if kind == "rule" else ""
        said[place] = said.get(place, "") + json.dumps(value)
    found, waiting = set(), ["nat-prerouting"]
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting += re.findall(r'"target": "([^"]+)"', said.get(place, ""))
            waiting += re.findall(r'"data": "(@[^"]+)"', said.get(place, ""))
    text = " ".join(said.get(place, "") for place in found)
    return {
        f"{address}:{port}"
        for address, port in re.findall(r'"dnat": {"addr": "([^"]+)", "port": (\d+)}', text)
    }


def test_broken_nftables_are_told_or_counted() -> None:
    rng, whole = random.Random(7), json.loads((recorded.DATA / "nftables-n1.json").read_text())
    began_s = time.process_time()
    for _ in range(ROUNDS):
        broken = mutated(whole, rng)
        text = json.dumps(broken)
        found = parse_nft(text, "ipv4", max_examples=ALL)
        parse_nft(text, "ipv6")
        if found.read:
            plausible(found)
    assert time.process_time() - began_s < 60


def test_every_dnat_of_nftables_is_told_or_counted() -> None:
    """Rules and elements of maps are taken away; those that are left stay as they are."""
    rng, whole = random.Random(9), json.loads((recorded.DATA / "nftables-n2.json").read_text())
    for _ in range(ROUNDS):
        entries = [each for each in whole["nftables"] if rng.random() > 0.02]
        found = parse_nft(json.dumps({"nftables": entries}), "ipv4", max_examples=ALL)
        plausible(found)
        told = targets(found)
        counted = " ".join(found.examples)
        lost = {
            target
            for target in translations(entries)
            if target not in told and '"addr": "{}", "port": {}'.format(*target.split(":")) not in counted
        }
        # Local policies: pods alone come there.
        assert lost <= {"10.244.0.71:8080", "10.244.1.71:8080", "10.244.0.72:8080", "10.244.1.77:8080"}


def nat(*rules: str) -> NatRules:
    return parse_nat("\n".join(["*nat", *rules, "COMMIT"]), max_examples=ALL)


def timed(text: str) -> NatRules:
    began_s = time.process_time()
    found = parse_nat(text)
    assert time.process_time() - began_s < 6
    return found


def test_ten_thousand_rules_are_read_in_less_than_two_seconds() -> None:
    rules = []
    for at in range(3_334):
        address = f"10.96.{at // 256}.{at % 256}/32"
        rules += [
            f"-A KUBE-SERVICES -d {address} -p tcp -m comment"
            f' --comment "ns/s{at} cluster IP" -m tcp --dport 80 -j KUBE-SVC-{at}',
            f"-A KUBE-SVC-{at} -j KUBE-SEP-{at}",
            f"-A KUBE-SEP-{at} -p tcp -m tcp -j DNAT --to-destination 10.0.0.1:80",
        ]
    found = timed(
        "\n".join(["*nat", "-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES", *rules, "COMMIT"])
    )
    assert (len(found.services), found.not_understood) == (3_334, 0)


def test_service_with_ten_thousand_back_ends_is_read_in_less_than_two_seconds() -> None:
    rules = ["-A PREROUTING -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-A"]
    for at in range(5_000):
        chance = f"-m statistic --mode random --probability {1 / (5_000 - at):.11f} " if at < 4_999 else ""
        rules += [
            f"-A KUBE-SVC-A {chance}-j KUBE-SEP-{at}",
            f"-A KUBE-SEP-{at} -p tcp -m tcp -j DNAT --to-destination 10.0.{at // 250}.{at % 250}:80",
        ]
    [service] = timed("\n".join(["*nat", *rules, "COMMIT"])).services
    assert {each.share for each in service.backends} == {0.0002}


def test_maze_of_chains_ends_and_is_counted() -> None:
    """Each chain leads to the next by two ways: 2^40 ways in all."""
    rules = ["-A PREROUTING -j C0"]
    for at in range(40):
        rules += [
            f"-A C{at} -d 10.0.0.0/{at % 30 + 1} -p tcp --dport {at + 1} -j C{at + 1}",
            f"-A C{at} -d 10.0.0.0/{at % 29 + 2} -j C{at + 1}",
        ]
    rules.append("-A C40 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.1:80")
    found = timed("\n".join(["*nat", *rules, "COMMIT"]))
    assert found.not_understood > 0


def test_maze_of_networks_ends() -> None:
    rules = ["-A PREROUTING -j C0"]
    for at in range(12):
        rules += [
            f"-A C{at} -d {n}.0.0.0/8 -p {p} -j C{at + 1}" for n in range(1, 30) for p in ("tcp", "udp")
        ]
    rules.append("-A C12 -j DNAT --to-destination 10.0.0.1:80")
    assert timed("\n".join(["*nat", *rules, "COMMIT"])).read


def test_chain_as_deep_as_the_file_is_counted() -> None:
    rules = [f"-A C{at} -j C{at + 1}" for at in range(9_998)]
    rules += ["-A PREROUTING -j C0", "-A C9998 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.1:80"]
    found = timed("\n".join(["*nat", *rules, "COMMIT"]))
    assert (found.services, found.not_understood) == ((), 10_000)


def test_circle_with_a_way_out_is_told_and_ends() -> None:
    found = nat(
        "-A PREROUTING -p tcp -m tcp --dport 80 -j A",
        "-A A -m statistic --mode random --probability 0.5 -j B",
        "-A A -j DNAT --to-destination 10.0.0.1:80",
        "-A B -j A",
    )
    [service] = found.services
    assert sum(each.share for each in service.backends) <= 1


def test_rule_of_a_megabyte_is_read_in_less_than_two_seconds() -> None:
    comment = "x" * 1_000_000
    assert timed(f'*nat\n-A PREROUTING -m comment --comment "{comment}" -j X\nCOMMIT').read
    assert timed("*nat\n-A PREROUTING " + '\\"' * 200_000 + "\nCOMMIT").not_understood == 1
    assert timed("*nat\n-A PREROUTING " + "! " * 300_000 + "\nCOMMIT").read


def test_maps_times_sets_of_nftables_are_bounded() -> None:
    addresses = [f"10.0.{at // 250}.{at % 250}" for at in range(10_000)]
    elements = [
        [{"concat": ["tcp", port]}, {"goto": {"target": "external-A-a/b/tcp/"}}] for port in range(1, 2_001)
    ]
    ip = {"family": "ip", "table": "kube-proxy"}
    key = {"concat": [{"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]}
    match = {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "@nodeport-ips"}
    services = [{"match": match}, {"vmap": {"key": key, "data": "@service-nodeports"}}]
    entries: list[Any] = [
        {"set": ip | {"name": "nodeport-ips", "elem": addresses}},
        {"map": ip | {"name": "service-nodeports", "elem": elements}},
        {"chain": ip | {"name": "nat-prerouting", "type": "nat", "hook": "prerouting"}},
        {"rule": ip | {"chain": "nat-prerouting", "expr": services}},
        {"rule": ip | {"chain": "external-A-a/b/tcp/", "expr": [{"dnat": {"addr": "10.0.0.1", "port": 80}}]}},
    ]
    text = json.dumps({"nftables": entries})
    began_s = time.process_time()
    found = parse_nft(text, "ipv4")
    assert time.process_time() - began_s < 10
    assert (found.services, found.not_understood) == ((), 2)
