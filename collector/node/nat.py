# SPDX-License-Identifier: Apache-2.0
"""Address translation of a node as data, whoever's rules it comes from: services, back ends, masquerading."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

MAX_EXAMPLES: Final = 10


@dataclass(frozen=True, slots=True)
class Backend:
    """Where a service's connections go. `share`: of new connections, 0 to 1; port 0: the one called."""

    address: str
    port: int
    share: float


@dataclass(frozen=True, slots=True)
class Service:
    """An address and port that are translated; without an address: this port on every address of the node."""

    kind: str
    """kube-proxy's `cluster-ip`, `node-port`, `load-balancer`, `external-ip`, or `external` where its rules
    do not say which of the last two; of others: `host-port`, a port of the node, or `dnat`, an address."""
    name: str
    """`namespace/name` out of the rule's comment or chain; empty without one."""
    protocol: str
    """In small letters; empty: all."""
    address: str
    port: int
    """0: all."""
    backends: tuple[Backend, ...]
    """For a client that is neither a pod nor the node."""
    masquerade: str
    """Whose source is translated too: `always`, `outside` (not from pods), empty: a pod calling itself."""
    affinity_s: int = 0
    """How long a client keeps its back end; 0: each connection is shared out anew."""
    refused: str = ""
    """Without back ends: `reject` (there are none), `drop` (none on this node, which alone is allowed)."""


@dataclass(frozen=True, slots=True)
class Masquerade:
    """A rule that translates the source; `when` as the rules have it, `to` empty: the NIC's address."""

    chain: str
    when: str
    to: str


@dataclass(frozen=True, slots=True)
class NatRules:
    """Translation of one address family."""

    read: bool
    reason: str = ""
    """Why it was not read, or not in full."""
    services: tuple[Service, ...] = ()
    masquerades: tuple[Masquerade, ...] = ()
    not_understood: int = 0
    """Rules that may translate and are in no field above."""
    examples: tuple[str, ...] = ()
    """The first of them."""


def joined(one: NatRules, other: NatRules) -> NatRules:
    """Rules of two origins, both of which the kernel applies; what both tell counts once."""
    if not other.read:
        return _with_reasons(one, one, other)
    if not one.read:
        return _with_reasons(other, one, other)
    found = NatRules(
        read=True,
        services=tuple(dict.fromkeys((*one.services, *other.services))),
        masquerades=tuple(dict.fromkeys((*one.masquerades, *other.masquerades))),
        not_understood=one.not_understood + other.not_understood,
        examples=(*one.examples, *other.examples)[:MAX_EXAMPLES],
    )
    return _with_reasons(found, one, other)


def _with_reasons(found: NatRules, *origins: NatRules) -> NatRules:
    reasons = dict.fromkeys(each.reason for each in origins if each.reason)
    return replace(found, reason="; ".join(reasons))


def with_refusals(services: Iterable[Service], refusals: Iterable[Service]) -> tuple[Service, ...]:
    """Services, and what happens to those without back ends: kube-proxy refuses them in another table."""
    refused = {_called(each): each for each in refusals}
    found, used = [], set()
    for each in services:
        refusal = refused.get(_called(each))
        if refusal is None:
            found.append(each)
            continue
        used.add(_called(each))
        found.append(replace(each, backends=(), masquerade="", refused=refusal.refused))
    return (*found, *(each for key, each in refused.items() if key not in used))


def _called(service: Service) -> tuple[str, str, int]:
    """A refusal is of a node port on all addresses, whichever of them it may be called on."""
    return service.protocol, "" if service.kind == "node-port" else service.address, service.port
