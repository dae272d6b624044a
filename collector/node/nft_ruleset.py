# SPDX-License-Identifier: Apache-2.0
"""The objects in `nft -j list ruleset` (libnftables-json(5)), of one address family. Pure.

What is otherwise than the format says is left out, or is an expression that nobody understands.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Expression = tuple[str, Any]
"""Name (match, vmap, jump, dnat ...) and its value as JSON has it."""
Place = tuple[str, str]
"""A table with its family, as `ip kube-proxy`, and a name in it."""
FAMILIES: Final = {"ipv4": "ip", "ipv6": "ip6"}


class RulesetError(Exception):
    """It is no ruleset; one line says why."""


@dataclass(frozen=True, slots=True)
class NftRule:
    """A rule."""

    chain: Place
    expressions: tuple[Expression, ...]

    @property
    def text(self) -> str:
        """For people."""
        table, chain = self.chain
        return f"{table} {chain} {json.dumps([dict([each]) for each in self.expressions])}"[:300]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a map says of a key."""

    key: tuple[str | int, ...]
    """A network as `10.0.0.0/8`; what else is neither text nor number, as JSON."""
    action: str
    """goto, jump, drop, accept ..."""
    target: str = ""
    comment: str = ""


@dataclass(slots=True)
class Ruleset:
    """All of one family and of inet, but the tables that were left out."""

    rules: list[NftRule] = field(default_factory=list)
    hooks: dict[Place, tuple[str, int]] = field(default_factory=dict)
    """Chains that the kernel calls to translate: where (prerouting, output ...), and their priority."""
    sets: dict[Place, tuple[Any, ...]] = field(default_factory=dict)
    timeouts_s: dict[Place, int] = field(default_factory=dict)
    """Of sets whose elements expire."""
    maps: dict[Place, tuple[Verdict, ...]] = field(default_factory=dict)

    def hooked(self, hook: str) -> list[Place]:
        """The chains of a hook as the kernel calls them, one after the other."""
        found = [(priority, place) for place, (of, priority) in self.hooks.items() if of == hook]
        return [place for _, place in sorted(found)]


def parse_ruleset(text: str, family: str, without: frozenset[str] = frozenset()) -> Ruleset:
    """What is of `family` (ipv4, ipv6), less the tables called `without`. Raises RulesetError."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        raise RulesetError("nft's answer is no JSON of a ruleset") from None
    entries = whole.get("nftables") if isinstance(whole, dict) else None
    if not isinstance(entries, list):
        raise RulesetError("nft's answer has no list of rules")
    found = Ruleset()
    for entry in entries:
        kind, value = _only(entry)
        if isinstance(value, dict) and value.get("family") in (FAMILIES[family], "inet"):
            table = str(value.get("name" if kind == "table" else "table"))
            if table not in without:
                _add(found, kind, value, f"{value['family']} {table}")
    return found


def verdict_of(value: object) -> tuple[str, str]:
    """The name of a verdict and, of jump and goto, the chain; empty: it is none."""
    name, found = _only(value)
    target = found.get("target") if isinstance(found, dict) else None
    return name, target if isinstance(target, str) else ""


def verdicts(pairs: object) -> Iterator[Verdict]:
    """The elements of a verdict map."""
    for pair in pairs if isinstance(pairs, list) else ():
        if not isinstance(pair, list) or len(pair) != 2:
            continue
        key, comment = _plain(pair[0])
        parts = key.get("concat") if isinstance(key, dict) else [key]
        action, target = verdict_of(pair[1])
        if isinstance(parts, list) and action:
            yield Verdict(tuple(map(_scalar, parts)), action, target, comment)


def _add(found: Ruleset, kind: str, value: Mapping[str, Any], table: str) -> None:
    if kind == "rule":
        expressions = value.get("expr")
        listed = expressions if isinstance(expressions, list) else [expressions]
        found.rules.append(NftRule((table, str(value.get("chain"))), tuple(map(_only, listed))))
        return
    place = table, str(value.get("name"))
    elements = value.get("elem")
    if kind == "chain" and value.get("type") == "nat":
        priority = value.get("prio")
        found.hooks[place] = str(value.get("hook")), priority if isinstance(priority, int) else 0
    elif kind == "map":
        found.maps[place] = tuple(verdicts(elements))
    elif kind == "set":
        timeout_s = value.get("timeout")
        if type(timeout_s) is int:
            found.timeouts_s[place] = timeout_s
        listed = elements if isinstance(elements, list) else []
        found.sets[place] = tuple(_plain(each)[0] for each in listed)


def _plain(element: object) -> tuple[Any, str]:
    """An element without what is told of it, and its comment."""
    name, value = _only(element)
    if name != "elem" or not isinstance(value, dict):
        return element, ""
    comment = value.get("comment")
    return value.get("val"), comment if isinstance(comment, str) else ""


def _scalar(part: object) -> str | int:
    """What can be compared."""
    prefix = part.get("prefix") if isinstance(part, dict) else None
    if isinstance(prefix, dict):
        return f"{prefix.get('addr')}/{prefix.get('len')}"
    return part if isinstance(part, str | int) else json.dumps(part)


def _only(entry: object) -> Expression:
    """Key and value of an object that has one; else a name that nobody understands."""
    if isinstance(entry, dict) and len(entry) == 1:
        [(name, value)] = entry.items()
        return str(name), value
    return "", entry
