# SPDX-License-Identifier: Apache-2.0
"""Address translation out of `nft -j list ruleset` (libnftables-json(5)). Pure.

Understands kube-proxy's nftables mode (Kubernetes pkg/proxy/nftables/proxier.go): maps from service addresses
and node ports to chains, chains to back ends in equal shares. What iptables made is left to iptables-save.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from collector.node.nat import MAX_EXAMPLES, Backend, Masquerade, NatRules, Service

_TABLE: Final = "kube-proxy"
_FAMILIES: Final = {"ipv4": "ip", "ipv6": "ip6"}
_MAX_DEPTH: Final = 16
_TRANSLATES: Final = ("dnat", "snat", "redirect", "masquerade")
_KINDS: Final = {"service-ips": "cluster-ip", "service-nodeports": "node-port"}
_NO_BACKENDS: Final = ("no-endpoint-services", "no-endpoint-nodeports")
Plain = Mapping[str, Any]


@dataclass(slots=True)
class _Table:
    """kube-proxy's table of one family."""

    chains: dict[str, list[Plain]] = field(default_factory=dict)
    maps: dict[str, list[tuple[tuple[Any, ...], str]]] = field(default_factory=dict)
    """Key and the chain that it goes to, by map."""
    understood: set[int] = field(default_factory=set)
    """Numbers of rules that translate and were understood."""


def parse_nft(text: str, family: str) -> NatRules:
    """The translation of `family` (ipv4, ipv6); what is no such JSON is not read, with a reason."""
    try:
        found = json.loads(text)
        entries = found["nftables"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return NatRules(read=False, reason="nft's answer is no JSON of a ruleset")
    if not isinstance(entries, list):
        return NatRules(read=False, reason="nft's answer has no list of rules")
    own = _FAMILIES[family]
    table, others = _Table(), []
    for number, entry in enumerate(entries):
        kind, value = _only(entry)
        if value.get("family") not in (own, "inet"):
            continue
        if value.get("table") != _TABLE:
            if kind == "rule":
                others.append(value)
        elif kind == "rule":
            table.chains.setdefault(str(value.get("chain")), []).append(dict(value) | {"at": number})
        elif kind == "map":
            table.maps[str(value.get("name"))] = list(_elements(value))
    return _rules(table, others)


def _rules(table: _Table, others: Sequence[Plain]) -> NatRules:
    services = [*_services(table), *_without_backends(table)]
    masquerades, unknown = list(_masquerades(table)), []
    for rule in others:
        target = _translation(rule)
        if target in ("masquerade", "snat"):
            masquerades.append(Masquerade(str(rule.get("chain")), _when(rule), _address_in(rule, target)))
        elif target:
            unknown.append(rule)
    for rules in table.chains.values():
        unknown += [each for each in rules if _translation(each) and each["at"] not in table.understood]
    return NatRules(
        read=True,
        reason="",
        services=tuple(services),
        masquerades=tuple(masquerades),
        not_understood=len(unknown),
        examples=tuple(json.dumps(each.get("expr"))[:200] for each in unknown[:MAX_EXAMPLES]),
    )


def _services(table: _Table) -> Iterator[Service]:
    for name, kind in _KINDS.items():
        for key, chain in table.maps.get(name, ()):
            address, protocol, port = key if len(key) == 3 else ("", *key)
            backends = tuple(_backends(table, chain, 1.0, 0))
            is_outside = kind == "cluster-ip" and chain.startswith("external-")
            yield Service(
                kind="load-balancer" if is_outside else kind,
                name=_name(chain),
                protocol=str(protocol),
                address=str(address),
                port=port,
                backends=_merged(backends),
                masquerade=_masquerade(table, chain),
            )


def _without_backends(table: _Table) -> Iterator[Service]:
    for name in _NO_BACKENDS:
        for key, _ in table.maps.get(name, ()):
            address, protocol, port = key if len(key) == 3 else ("", *key)
            kind = "cluster-ip" if len(key) == 3 else "node-port"
            yield Service(kind, "", str(protocol), str(address), port, (), "")


def _backends(table: _Table, chain: str, share: float, depth: int) -> Iterator[Backend]:
    """As a connection from elsewhere takes its way: rules for some sources only are left out."""
    if depth > _MAX_DEPTH:
        return
    for rule in table.chains.get(chain, ()):
        expressions = _expressions(rule)
        if any(_is_for_some_sources(each) for each in expressions):
            continue
        for each in expressions:
            if "dnat" in each:
                backend = _destination(each["dnat"], share)
                if backend is not None:
                    table.understood.add(rule["at"])
                    yield backend
                return
            if "goto" in each:
                yield from _backends(table, _target(each["goto"]), share, depth + 1)
                return
            if "vmap" in each:
                targets = list(_shares(each["vmap"]))
                for target in targets:
                    yield from _backends(table, target, share / len(targets), depth + 1)
                return


def _shares(vmap: object) -> Iterator[str]:
    """The chains among which a random number chooses, each for one number."""
    data = vmap.get("data") if isinstance(vmap, dict) else None
    pairs = data.get("set") if isinstance(data, dict) else None
    for pair in pairs if isinstance(pairs, list) else ():
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[1], dict):
            yield _target(pair[1].get("goto"))


def _destination(dnat: object, share: float) -> Backend | None:
    if not isinstance(dnat, dict):
        return None
    address, port = dnat.get("addr"), dnat.get("port", 0)
    if not isinstance(address, str) or not isinstance(port, int) or isinstance(port, bool):
        return None
    return Backend(address, port, round(share, 6))


def _merged(backends: Sequence[Backend]) -> tuple[Backend, ...]:
    """One entry for each, also where several ways lead to it."""
    found: dict[tuple[str, int], Backend] = {}
    for each in backends:
        key = each.address, each.port
        before = found.get(key)
        found[key] = each if before is None else replace(each, share=round(before.share + each.share, 6))
    return tuple(found.values())


def _masquerade(table: _Table, chain: str) -> str:
    for rule in table.chains.get(chain, ()):
        marks = [each for each in _expressions(rule) if _target(each.get("jump")) == "mark-for-masquerade"]
        if marks:
            matches = [each for each in _expressions(rule) if "match" in each]
            if not matches:
                return "always"
            if any(each["match"].get("op") == "!=" for each in matches if isinstance(each["match"], dict)):
                return "outside"
    return ""


def _masquerades(table: _Table) -> Iterator[Masquerade]:
    for chain, rules in table.chains.items():
        for rule in rules:
            target = _translation(rule)
            if target in ("masquerade", "snat"):
                table.understood.add(rule["at"])
                yield Masquerade(chain, _when(rule), _address_in(rule, target))


def _is_for_some_sources(expression: Plain) -> bool:
    match = expression.get("match")
    if not isinstance(match, dict):
        return False
    left = match.get("left")
    if not isinstance(left, dict):
        return False
    payload = left.get("payload")
    return "fib" in left or (isinstance(payload, dict) and payload.get("field") == "saddr")


def _translation(rule: Plain) -> str:
    """What of _TRANSLATES a rule does; empty: nothing."""
    return next((name for each in _expressions(rule) for name in _TRANSLATES if name in each), "")


def _when(rule: Plain) -> str:
    """The conditions of a rule, as nft's JSON has them."""
    return " ".join(json.dumps(each["match"]) for each in _expressions(rule) if "match" in each)[:200]


def _address_in(rule: Plain, target: str) -> str:
    for each in _expressions(rule):
        value = each.get(target)
        if isinstance(value, dict) and isinstance(value.get("addr"), str):
            return str(value["addr"])
    return ""


def _expressions(rule: Plain) -> list[Plain]:
    found = rule.get("expr")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _elements(value: Plain) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Keys and chains of a map; what is otherwise is left out."""
    elements = value.get("elem")
    for pair in elements if isinstance(elements, list) else ():
        if not isinstance(pair, list) or len(pair) != 2 or not isinstance(pair[1], dict):
            continue
        key = pair[0]
        if isinstance(key, dict) and isinstance(key.get("elem"), dict):
            key = key["elem"].get("val")
        parts = key.get("concat") if isinstance(key, dict) else None
        if isinstance(parts, list) and len(parts) in (2, 3) and isinstance(parts[-1], int):
            yield tuple(parts), _target(pair[1].get("goto"))


def _name(chain: str) -> str:
    """`namespace/name` out of `service-HASH-namespace/name/protocol/port`."""
    parts = chain.split("-", 2)
    place = parts[2].split("/") if len(parts) == 3 else []
    return "/".join(place[:2]) if len(place) >= 3 else ""


def _target(value: object) -> str:
    target = value.get("target") if isinstance(value, dict) else None
    return target if isinstance(target, str) else ""


def _only(entry: object) -> tuple[str, Plain]:
    if isinstance(entry, dict) and len(entry) == 1:
        kind, value = next(iter(entry.items()))
        if isinstance(value, dict):
            return str(kind), value
    return "", {}
