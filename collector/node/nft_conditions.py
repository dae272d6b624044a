# SPDX-License-Identifier: Apache-2.0
"""What a rule of nftables demands: of the destination, and of the client. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

from collector.node.nft_ruleset import FAMILIES, Ruleset
from collector.node.steps import Clients, Match

MAX_MATCHES: Final = 100_000
"""A few addresses of the node times all node ports."""
_TRANSPORTS: Final = ("tcp", "udp", "sctp", "dccp", "udplite", "th")
_PROTOCOLS: Final = {6: "tcp", 17: "udp", 33: "dccp", 132: "sctp", 136: "udplite"}
_LOOPBACK: Final = frozenset({"127.0.0.0/8", "127.0.0.1", "::1"})
Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Condition:
    """Destinations, any of which will do; none: it never holds. And for whom."""

    matches: tuple[Match, ...] = (Match(),)
    clients: Clients = "all"
    affinity_s: int = 0


_UNCLEAR: Final = Condition(clients="unclear")
_NEVER: Final = Condition(())


def condition_of(value: object, table: str, ruleset: Ruleset, family: str) -> Condition:
    """What a `match` demands."""
    if not isinstance(value, dict):
        return _UNCLEAR
    field, operator = field_of(value.get("left"), family), value.get("op")
    if field == "other family":
        return _NEVER
    right = value.get("right")
    if operator == "!=":
        return _negated(field, _values(right, table, ruleset))
    if operator not in ("==", "in"):
        return _UNCLEAR
    if field == "source" and isinstance(right, str) and (table, right[1:]) in ruleset.timeouts_s:
        return Condition(clients="known", affinity_s=ruleset.timeouts_s[table, right[1:]])
    return _demanded(field, _values(right, table, ruleset))


def field_of(left: object, family: str) -> str:
    """What is compared: address, source, protocol, port (`port tcp` of one protocol), local, local source,
    in, state; `other family`; empty: something else."""
    if not isinstance(left, dict) or len(left) != 1:
        return ""
    [(kind, what)] = left.items()
    if not isinstance(what, dict):
        return ""
    if kind == "payload":
        return _payload(what.get("protocol"), what.get("field"), FAMILIES[family])
    if kind == "fib" and what.get("result") == "type":
        return {"daddr": "local", "saddr": "local source"}.get(
            "".join(map(str, _listed(what.get("flags")))), ""
        )
    if kind == "meta":
        return {"l4proto": "protocol", "iifname": "in", "iif": "in"}.get(str(what.get("key")), "")
    return "state" if kind == "ct" and what.get("key") == "state" else ""


def match_of(field: str, value: object) -> Match | None:
    """What one value of a field demands of a destination; None: nothing that can be told."""
    if field == "address":
        address = address_of(value)
        return Match(address) if address else None
    if field == "protocol":
        protocol = _PROTOCOLS.get(value, "") if type(value) is int else value
        return Match(protocol=protocol) if isinstance(protocol, str) and protocol.isalnum() else None
    if field.startswith("port") and type(value) is int and 0 < value < 65536:
        return Match(protocol=field[5:], port=value)
    return None


def address_of(value: object) -> str:
    """An address, or a network with its length; empty: it is neither."""
    prefix = value.get("prefix") if isinstance(value, dict) else None
    if isinstance(prefix, dict):
        value = f"{prefix.get('addr')}/{prefix.get('len')}"
    try:
        return str(ip_network(value) if "/" in value else ip_address(value)) if isinstance(value, str) else ""
    except ValueError:
        return ""


def both(one: Condition, other: Condition) -> Condition:
    """What holds if both do."""
    if len(one.matches) * len(other.matches) > MAX_MATCHES:
        return _UNCLEAR
    clients: Clients = one.clients if other.clients in ("all", one.clients) else other.clients
    if one.clients != "all" and clients != one.clients:
        clients = "unclear"
    matches = (first & second for first in one.matches for second in other.matches)
    return Condition(
        tuple(each for each in matches if each is not None), clients, max(one.affinity_s, other.affinity_s)
    )


def text_of(value: object) -> str:
    """A match as nft writes it, for people; what is rare stays JSON."""
    if not isinstance(value, dict):
        return json.dumps(value)
    operator = value.get("op")
    said = (
        _side(value.get("left")),
        "" if operator in ("==", "in") else str(operator),
        _side(value.get("right")),
    )
    return " ".join(part for part in said if part)


def _payload(protocol: object, field: object, family: str) -> str:
    if protocol in FAMILIES.values():
        if protocol != family:
            return "other family"
        names = {"daddr": "address", "saddr": "source", "protocol": "protocol", "nexthdr": "protocol"}
        return names.get(str(field), "")
    if protocol in _TRANSPORTS and field == "dport":
        return "port" if protocol == "th" else f"port {protocol}"
    return ""


def _demanded(field: str, values: Values | None) -> Condition:
    if values is None or not field:
        return _UNCLEAR
    if field == "source":
        return Condition(clients="some")
    if field in ("local", "local source"):
        if values != ("local",):
            return _UNCLEAR
        return Condition((Match(is_local=True),)) if field == "local" else Condition(clients="local")
    if field == "state":
        return Condition() if "new" in values else _UNCLEAR  # nobody else comes to a chain of type nat
    matches = [match_of(field, each) for each in values]
    known = tuple(each for each in matches if each is not None)
    return Condition(known) if len(known) == len(matches) else _UNCLEAR


def _negated(field: str, values: Values | None) -> Condition:
    if field == "source":
        return Condition(clients="others")
    if field == "in":
        return Condition()  # a bridge's own pods, who do not come by the node's addresses
    if field == "address" and values and {address_of(each) for each in values} <= _LOOPBACK:
        return Condition()
    return _UNCLEAR


def _values(right: object, table: str, ruleset: Ruleset) -> Values | None:
    """All values that will do; None: not known."""
    if isinstance(right, str) and right.startswith("@"):
        return ruleset.sets.get((table, right[1:]))
    if isinstance(right, dict) and isinstance(right.get("set"), list):
        return tuple(right["set"])
    return tuple(right) if isinstance(right, list) else (right,)


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else [value]


def _side(value: object) -> str:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    [(kind, what)] = value.items() if isinstance(value, dict) and len(value) == 1 else [("", None)]
    if kind == "payload" and isinstance(what, dict):
        return f"{what.get('protocol')} {what.get('field')}"
    if kind in ("meta", "ct") and isinstance(what, dict):
        return f"{kind} {what.get('key')}".replace("meta oif", "oif").replace("meta iif", "iif")
    if kind == "set" and isinstance(what, list):
        return "{" + ", ".join(map(_side, what)) + "}"
    if kind == "&" and isinstance(what, list):
        return " & ".join(map(_side, what))
    return address_of(value) or json.dumps(value)
