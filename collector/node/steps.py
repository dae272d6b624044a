# SPDX-License-Identifier: Apache-2.0
"""Rules in one language: what is demanded of a packet, and where it goes then. Pure."""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal

Action = Literal["dnat", "go", "mark", "stop", "odd", "none"]
"""To a back end; to another chain; marked to be masqueraded; out of here; a translation that is not
understood (REDIRECT); nothing that translates a destination."""
Clients = Literal["all", "some", "others", "local", "known", "unclear"]
"""Whom a rule is for: all; some addresses; all but some; the node itself; who was here before (session
affinity); there are conditions that are not understood."""


@dataclass(frozen=True, slots=True)
class Match:
    """What is demanded of a destination; empty, 0, False: nothing."""

    address: str = ""
    """An address, or a network with its length."""
    protocol: str = ""
    port: int = 0
    is_local: bool = False
    """Any address of the node."""

    def __and__(self, other: "Match") -> "Match | None":
        """What both demand; None if nothing fits."""
        address = _narrower(self.address, other.address)
        protocol = self.protocol or other.protocol
        port = self.port or other.port
        if address is None or protocol != (other.protocol or protocol) or port != (other.port or port):
            return None
        return Match(address, protocol, port, self.is_local or other.is_local)


@dataclass(frozen=True, slots=True)
class Step:
    """A rule, or the part of it that is for one destination."""

    rule: int
    """Whose part it is: several steps may be of one rule."""
    action: Action
    match: Match = Match()
    target: str = ""
    """The chain where it goes."""
    backend: tuple[str, int] = ("", 0)
    share: float = 1.0
    """Of the connections that come as far as this."""
    clients: Clients = "all"
    kind: str = ""
    """Of the service; empty: by its address."""
    name: str = ""
    affinity_s: int = 0


def _narrower(one: str, other: str) -> str | None:
    """The smaller of two networks, one within the other; None if they have nothing in common."""
    if not one or not other or one == other:
        return one or other
    first, second = _network(one), _network(other)
    if first is None or second is None or first.version != second.version or not first.overlaps(second):
        return None
    return one if first.prefixlen > second.prefixlen else other


@lru_cache(maxsize=4096)
def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text)
    except ValueError:
        return None
