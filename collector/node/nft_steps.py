# SPDX-License-Identifier: Apache-2.0
"""Rules of nftables as steps of a translation. Pure."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from collector.node.nft_conditions import (
    MAX_MATCHES,
    Condition,
    address_of,
    both,
    condition_of,
    field_of,
    match_of,
)
from collector.node.nft_ruleset import FAMILIES, NftRule, Ruleset, Verdict, verdict_of, verdicts
from collector.node.steps import Action, Match, Step

_KUBE_PROXY: Final = "kube-proxy"
_STOPS: Final = frozenset({"return", "accept", "drop", "reject"})
_GOES: Final = frozenset({"jump", "goto"})
_NOTHING: Final = frozenset({"counter", "log", "comment", "mangle", "set", "masquerade", "snat", "continue"})
"""Statements that translate no destination and ask nothing."""
_ODD: Final = frozenset({"", "redirect", "tproxy"})
"""Translations that are not understood, and what is no statement."""
_XT_NOTHING: Final = frozenset({"LOG", "NFLOG", "MARK", "CONNMARK", "SNAT", "MASQUERADE"})
"""Targets of iptables that translate no destination."""
_NAME: Final = re.compile(r"(?:[a-z]+-[A-Z0-9]+-)?(?P<name>[\w.-]+/[\w.-]+)(?:[/:]|$)")
_MAX_CHOICES: Final = 65_536


def is_kube_proxy(table: str) -> bool:
    """A table, with its family, is kube-proxy's."""
    return table.endswith(f" {_KUBE_PROXY}")


def is_of_other_family(translation: object, family: str) -> bool:
    """In a table for both families: `dnat ip to` is nothing to IPv6."""
    said = translation.get("family") if isinstance(translation, dict) else None
    return said in FAMILIES.values() and said != FAMILIES[family]


def service_name(text: str) -> str:
    """`namespace/name` out of `service-HASH-namespace/name/tcp/port` or `namespace/name:port`."""
    found = _NAME.match(text)
    return found["name"] if found else ""


def match_key(fields: Sequence[str], key: Sequence[str | int]) -> Match | None:
    """What an element of a map with these fields demands of a destination; None: it cannot be told."""
    if len(fields) != len(key):
        return None
    found: Match | None = Match()
    for field, value in zip(fields, key, strict=True):
        wanted = match_of(field, value)
        if found is None or wanted is None:
            return None
        found = found & wanted
    return found


class Steps:
    """Makes steps of the rules of one family."""

    def __init__(self, ruleset: Ruleset, family: str) -> None:
        self._ruleset = ruleset
        self._family = family
        self._marking = _marking(ruleset.rules)
        self._guarded = {
            (table, each.key)
            for (table, name), found in ruleset.maps.items()
            if name == "firewall-ips"
            for each in found
        }
        self._matches_left = 4 * MAX_MATCHES

    def of(self, at: int, rule: NftRule) -> Iterator[Step]:
        """The steps of rule number `at`."""
        table = rule.chain[0]
        condition = Condition()
        for name, value in rule.expressions:
            if name == "match":
                condition = both(condition, condition_of(value, table, self._ruleset, self._family))
            elif name == "vmap":
                yield from self._of_map(at, table, value, condition)
                return
            elif name == "dnat" and is_of_other_family(value, self._family):
                return
            elif name in _GOES or name in _STOPS or name in _ODD or name == "dnat":
                yield from self._bounded(condition, self._step(at, table, name, value))
                return
            elif name == "xt" and _is_translation(value):
                yield Step(at, "odd", clients="unclear")
                return
            elif name not in _NOTHING:
                condition = replace(condition, clients="unclear")

    def _step(self, at: int, table: str, name: str, value: object) -> Step:
        if name in _STOPS:
            return Step(at, "stop")
        if name in _GOES:
            _, chain = verdict_of({name: value})
            return self._go(at, f"{table} {chain}")
        backend = _destination(value) if name == "dnat" else None
        return Step(at, "odd") if backend is None else Step(at, "dnat", backend=backend)

    def _go(self, at: int, chain: str) -> Step:
        action: Action = "mark" if chain in self._marking else "go"
        return Step(at, action, target=chain)

    def _of_map(self, at: int, table: str, vmap: object, condition: Condition) -> Iterator[Step]:
        key = vmap.get("key") if isinstance(vmap, dict) else None
        data = vmap.get("data") if isinstance(vmap, dict) else None
        name = data[1:] if isinstance(data, str) and data.startswith("@") else ""
        found: Sequence[Verdict] = self._ruleset.maps.get((table, name), ())
        if isinstance(data, dict):
            found = tuple(verdicts(data.get("set")))
        numbers = key.get("numgen") if isinstance(key, dict) else None
        if isinstance(numbers, dict):
            yield from self._choices(at, table, numbers, found, condition)
            return
        parts = key.get("concat") if isinstance(key, dict) else None
        fields = [field_of(each, self._family) for each in (parts if isinstance(parts, list) else [key])]
        if len(condition.matches) * len(found) > MAX_MATCHES:
            condition = Condition(clients="unclear")
        for each in found:
            wanted = match_key(fields, each.key)
            below = Condition(clients="unclear") if wanted is None else Condition((wanted,))
            step = self._verdict(at, table, each)
            if is_kube_proxy(table):
                step = replace(step, kind=self._kind(table, name, each), name=service_name(each.target))
            yield from self._bounded(both(condition, below), step)

    def _choices(
        self, at: int, table: str, numbers: dict[str, Any], found: Sequence[Verdict], condition: Condition
    ) -> Iterator[Step]:
        """One of several chains by a random number: each number has its own, or it is unclear."""
        keys = {each.key for each in found if all(type(part) is int for part in each.key)}
        count = numbers.get("mod")
        is_plain = (
            numbers.get("mode") == "random"
            and numbers.get("offset", 0) == 0
            and len(found) <= _MAX_CHOICES
            and count == len(found)
            and keys == {(number,) for number in range(len(found))}
        )
        clients = condition.clients if is_plain else "unclear"
        for number, each in enumerate(found):
            step = replace(self._verdict(at, table, each), share=1.0 / (len(found) - number))
            yield from self._bounded(replace(condition, clients=clients), step)

    def _verdict(self, at: int, table: str, verdict: Verdict) -> Step:
        if verdict.action in _GOES:
            return self._go(at, f"{table} {verdict.target}")
        return Step(at, "stop")

    def _kind(self, table: str, name: str, verdict: Verdict) -> str:
        if name == "service-nodeports":
            return "node-port"
        if name != "service-ips":
            return ""
        if not verdict.target.startswith("external-"):
            return "cluster-ip"
        return "load-balancer" if (table, verdict.key) in self._guarded else "external"

    def _bounded(self, condition: Condition, step: Step) -> Iterator[Step]:
        """A step for each destination; too many of them are one that is not understood."""
        self._matches_left -= len(condition.matches)
        if self._matches_left < 0:
            condition = Condition(clients="unclear")
        for match in condition.matches:
            yield replace(step, match=match, clients=condition.clients, affinity_s=condition.affinity_s)


def _is_translation(xt: object) -> bool:
    """A target of iptables that nft cannot show may be DNAT."""
    return not isinstance(xt, dict) or (xt.get("type") != "match" and xt.get("name") not in _XT_NOTHING)


def _destination(value: object) -> tuple[str, int] | None:
    """Address and port (0: the one called) of a dnat; None for maps, networks and ranges."""
    if not isinstance(value, dict) or not value.keys() <= {"addr", "port", "family", "flags"}:
        return None
    address, port = value.get("addr"), value.get("port", 0)
    if not isinstance(address, str) or type(port) is not int or not 0 <= port < 65536:
        return None
    address = address_of(address)
    return (address, port) if address and "/" not in address else None


def _marking(rules: Sequence[NftRule]) -> frozenset[str]:
    """Chains that do nothing but mark packets."""
    marking: dict[str, bool] = {}
    for rule in rules:
        chain = " ".join(rule.chain)
        marking[chain] = marking.get(chain, True) and [name for name, _ in rule.expressions] == ["mangle"]
    return frozenset(chain for chain, is_marking in marking.items() if is_marking)
