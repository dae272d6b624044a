# SPDX-License-Identifier: Apache-2.0
"""nftables' JSON of others than kube-proxy (test_nat_recorded.py has its), and of what is none."""

import json
import time
from typing import Any

import pytest

from collector.node.nat import Backend, Masquerade, NatRules, Service
from collector.node.nftables import parse_nft
from tests.unit.collector import recorded

OTHERS = (recorded.DATA / "nftables-others.json").read_text()


def ruleset(*expressions: Any, **more: Any) -> str:  # noqa: ANN401  JSON
    """One table with a chain of type nat, and in it a rule for each list of expressions."""
    place = {"family": "ip", "table": "mine"}
    entries: list[Any] = [
        {"chain": place | {"name": "pre", "type": "nat", "hook": "prerouting", "prio": -100}},
        *({"rule": place | {"chain": "pre", "expr": each}} for each in expressions),
        *({kind: place | value} for kind, value in more.items()),
    ]
    return json.dumps({"nftables": entries})


def to(address: str, port: int) -> tuple[Backend, ...]:
    return (Backend(address, port, 1.0),)


def test_host_ports_of_the_port_mapper_and_of_docker_are_told() -> None:
    found = parse_nft(OTHERS, "ipv4").services
    assert [each for each in found if each.kind == "host-port"] == [
        Service("host-port", "", "tcp", "", 8081, to("10.244.0.5", 80), ""),
        Service("host-port", "", "udp", "", 5300, to("10.244.0.5", 53), ""),
        Service("host-port", "", "tcp", "", 8080, to("172.17.0.2", 80), ""),
    ]
    assert parse_nft(OTHERS, "ipv6").services == (
        Service("dnat", "", "tcp", "2001:db8::30", 80, to("fd01::2", 80), ""),
        Service("host-port", "", "tcp", "", 8081, to("fd00:244::5", 80), ""),
    )


def test_sets_of_addresses_ports_and_protocols_are_told_one_by_one() -> None:
    found = parse_nft(OTHERS, "ipv4").services
    assert {
        (each.protocol, each.address, each.port): each.backends for each in found if each.kind == "dnat"
    } == {
        ("tcp", "192.0.2.20", 515): to("10.1.1.1", 0),
        ("tcp", "192.0.2.20", 631): to("10.1.1.1", 0),
        ("tcp", "192.0.2.21", 515): to("10.1.1.1", 0),
        ("tcp", "192.0.2.21", 631): to("10.1.1.1", 0),
        ("tcp", "192.0.2.30", 53): to("10.1.1.2", 53),
        ("udp", "192.0.2.30", 53): to("10.1.1.2", 53),
        ("tcp", "192.0.2.50", 80): (Backend("10.1.1.9", 80, 0.75), Backend("10.1.1.10", 80, 0.25)),
        ("tcp", "192.0.2.7", 8082): to("10.244.0.6", 80),
    }


def test_what_is_not_understood_is_counted_and_shown() -> None:
    """A map, a range of ports, a source, an interface, a redirect, and a mark with what is behind."""
    found = parse_nft(OTHERS, "ipv4")
    assert found.not_understood == 7
    parts = ("192.0.2.40", "192.0.2.41", "198.51.100.0", "eth7", "8082", '"target": "marked"', "10.1.1.8")
    for example, part in zip(found.examples, parts, strict=True):
        assert part in example
    assert parse_nft(OTHERS, "ipv6").not_understood == 1, "the redirect is for both families"


def test_who_translates_sources_is_told() -> None:
    assert parse_nft(OTHERS, "ipv4").masquerades == (
        Masquerade("masquerading", "ip saddr 10.244.0.5 ip daddr 10.244.0.5", ""),
        Masquerade("masquerading", "ip saddr 127.0.0.1 ip daddr 10.244.0.5", ""),
        Masquerade("nat-postrouting-out__docker0", "oifname != docker0 ip saddr 172.17.0.0/16", ""),
        Masquerade("post", "oifname eth0 ip saddr 10.1.0.0/16", "192.0.2.1"),
    )
    assert parse_nft(OTHERS, "ipv6").masquerades == ()


PORT = {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 80}}
DNAT = {"dnat": {"addr": "10.0.0.9", "port": 8080}}
PLAIN = Service("host-port", "", "tcp", "", 80, to("10.0.0.9", 8080), "")


def match(left: Any, right: Any, op: str = "==") -> dict[str, Any]:  # noqa: ANN401  JSON
    return {"match": {"op": op, "left": left, "right": right}}


@pytest.mark.parametrize(
    "neutral",
    [
        {"counter": {"packets": 0, "bytes": 0}},
        {"log": None},
        match({"ct": {"key": "state"}}, "new", "in"),
        match({"meta": {"key": "iifname"}}, "br0", "!="),
        match(
            {"payload": {"protocol": "ip", "field": "daddr"}},
            {"prefix": {"addr": "127.0.0.0", "len": 8}},
            "!=",
        ),
        match({"fib": {"result": "type", "flags": ["daddr"]}}, "local"),
    ],
)
def test_conditions_that_change_nothing_are_passed(neutral: dict[str, Any]) -> None:
    found = parse_nft(ruleset([neutral, PORT, DNAT]), "ipv4")
    assert (found.services, found.not_understood) == ((PLAIN,), 0)


@pytest.mark.parametrize(
    "condition",
    [
        {"limit": {"rate": 1, "per": "second"}},
        {"xt": {"type": "match", "name": "statistic"}},
        {"xt": None},
        {"unheard-of": {}},
        5,
        match({"meta": {"key": "mark"}}, 1),
        match({"meta": {"key": "iifname"}}, "eth0"),
        match({"ct": {"key": "state"}}, "established", "in"),
        match({"payload": {"protocol": "ip", "field": "saddr"}}, "10.0.0.1"),
        match({"payload": {"protocol": "ip", "field": "daddr"}}, "10.0.0.1", "!="),
        match({"payload": {"protocol": "ip", "field": "daddr"}}, "@nowhere"),
        match({"payload": {"protocol": "ip", "field": "daddr"}}, "no-address"),
        match({"payload": {"protocol": "ip", "field": "ttl"}}, 1),
        match({"payload": {"protocol": "tcp", "field": "dport"}}, 80, "<"),
        match({"payload": {"protocol": "tcp", "field": "dport"}}, 0),
        match({"payload": {"protocol": "tcp", "field": "dport"}}, 70_000),
        match({"payload": {"protocol": "tcp", "field": "dport"}}, True),
        match({"fib": {"result": "type", "flags": ["daddr"]}}, "broadcast"),
        match({"fib": {"result": "type", "flags": ["daddr", "iif"]}}, "local"),
        match({"fib": {"result": "type", "flags": ["saddr"]}}, "local"),
        {"match": 7},
    ],
)
def test_conditions_that_are_not_understood_make_a_rule_counted_never_told(condition: Any) -> None:  # noqa: ANN401
    found = parse_nft(ruleset([condition, PORT, DNAT]), "ipv4")
    assert (found.services, found.not_understood, len(found.examples)) == ((), 1, 1)


@pytest.mark.parametrize(
    "statement",
    [
        {"redirect": {"port": 1}},
        {"redirect": None},
        {"tproxy": {"port": 1}},
        {"xt": {"type": "target", "name": "DNAT"}},
        {"dnat": None},
        {"dnat": {"addr": "10.0.0.1-10.0.0.9"}},
        {"dnat": {"addr": {"prefix": {"addr": "10.0.0.0", "len": 24}}}},
        {"dnat": {"addr": {"map": {"key": {}, "data": {"set": []}}}}},
        {"dnat": {"addr": "10.0.0.1", "port": {"range": [1, 2]}}},
        {"dnat": {"addr": "10.0.0.1", "port": 70_000}},
        {"dnat": {"addr": "10.0.0.1", "port": 80, "unheard-of": 1}},
    ],
)
def test_translations_that_are_not_understood_are_counted(statement: dict[str, Any]) -> None:
    found = parse_nft(ruleset([PORT, statement]), "ipv4")
    assert (found.services, found.not_understood) == ((), 1)


def test_rule_for_the_other_family_is_neither_told_nor_counted() -> None:
    six = match({"payload": {"protocol": "ip6", "field": "daddr"}}, "fd00::1")
    found = parse_nft(ruleset([six, PORT, DNAT]), "ipv4")
    assert (found.services, found.not_understood) == ((), 0)


def test_what_no_packet_comes_to_is_neither_told_nor_counted() -> None:
    text = ruleset().replace('"hook": "prerouting"', '"hook": "postrouting"')
    entries = json.loads(text)["nftables"]
    entries.append({"rule": {"family": "ip", "table": "mine", "chain": "pre", "expr": [PORT, DNAT]}})
    found = parse_nft(json.dumps({"nftables": entries}), "ipv4")
    assert (found.services, found.not_understood) == ((), 0)


def test_the_chain_that_is_called_first_counts() -> None:
    entries = []
    for name, priority, port in (("late", -50, 1), ("early", -200, 2)):
        place = {"family": "ip", "table": name}
        dnat = {"dnat": {"addr": "10.0.0.9", "port": port}}
        entries += [
            {"chain": place | {"name": "pre", "type": "nat", "hook": "prerouting", "prio": priority}},
            {"rule": place | {"chain": "pre", "expr": [PORT, dnat]}},
        ]
    [found] = parse_nft(json.dumps({"nftables": entries}), "ipv4").services
    assert found.backends == to("10.0.0.9", 2)


@pytest.mark.parametrize("numbers", [[0, 2], [0, 0], ["a", "b"], [0, 1, 2]])
def test_random_numbers_that_do_not_fit_their_chains_are_not_understood(numbers: list[Any]) -> None:
    pairs = [[number, {"goto": {"target": "one"}}] for number in numbers]
    key = {"numgen": {"mode": "random", "mod": 2, "offset": 0}}
    vmap = {"vmap": {"key": key, "data": {"set": pairs}}}
    text = ruleset([PORT, vmap], rule={"chain": "one", "expr": [DNAT]})
    found = parse_nft(text, "ipv4")
    assert (found.services, found.not_understood) == ((), 2)


def test_tables_of_iptables_are_left_to_iptables_save_unless_it_cannot_show_them() -> None:
    text = ruleset([PORT, DNAT]).replace('"mine"', '"nat"')
    assert parse_nft(text, "ipv4") == NatRules(read=True)
    assert parse_nft(text, "ipv4", frozenset()).services == (PLAIN,)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"nftables": 5}', "[" * 100_000])
def test_what_is_no_ruleset_is_not_read_with_a_reason(text: str) -> None:
    found = parse_nft(text, "ipv4")
    assert not found.read
    assert found.reason


def test_chains_that_go_in_circles_end() -> None:
    text = ruleset(
        [PORT, {"jump": {"target": "one"}}],
        rule={"chain": "one", "expr": [{"goto": {"target": "pre"}}]},
    )
    assert parse_nft(text, "ipv4") == NatRules(read=True)


def test_ten_thousand_rules_are_read_in_seconds() -> None:
    place = {"family": "ip", "table": "kube-proxy"}
    key = {
        "concat": [
            {"payload": {"protocol": "ip", "field": "daddr"}},
            {"meta": {"key": "l4proto"}},
            {"payload": {"protocol": "th", "field": "dport"}},
        ]
    }
    entries: list[Any] = [
        {"chain": place | {"name": "nat-prerouting", "type": "nat", "hook": "prerouting", "prio": -100}},
        {
            "rule": place
            | {"chain": "nat-prerouting", "expr": [{"vmap": {"key": key, "data": "@service-ips"}}]}
        },
    ]
    elements = []
    for at in range(5_000):
        chain, endpoint = f"service-H{at}-ns/s{at}/tcp/", f"endpoint-H{at}"
        numbers = {"numgen": {"mode": "random", "mod": 1, "offset": 0}}
        vmap = {"vmap": {"key": numbers, "data": {"set": [[0, {"goto": {"target": endpoint}}]]}}}
        for name, expr in ((chain, [vmap]), (endpoint, [{"dnat": {"addr": "10.0.0.1", "port": 80}}])):
            entries.append({"rule": place | {"chain": name, "expr": expr}})
        elements.append(
            [{"concat": [f"10.96.{at // 256}.{at % 256}", "tcp", 80]}, {"goto": {"target": chain}}]
        )
    entries.append({"map": place | {"name": "service-ips", "elem": elements}})
    text = json.dumps({"nftables": entries})
    began_s = time.process_time()
    found = parse_nft(text, "ipv4")
    assert time.process_time() - began_s < 6, "2 s on a quiet machine"
    assert (len(found.services), found.not_understood) == (5_000, 0)
    assert found.services[7].name == "ns/s7"
