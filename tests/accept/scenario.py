# SPDX-License-Identifier: Apache-2.0
"""What a pairing scenario is, and what most of them check."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agent.reading.ring import Records
from bpf.record import Kind, Quality
from overhop.lab import HttpResult
from tests.accept.town import Check, Measured, Town, TownOptions, Towns, addresses

NONE = Quality(0)
DEFAULT = TownOptions()


@dataclass(frozen=True, slots=True)
class Size:
    """How much a scenario sends."""

    requests: int
    connections: int = 16


Body = Callable[[Town, Size], Check]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing to show, and the town in which it is shown."""

    name: str
    options: TownOptions
    body: Body

    def run(self, towns: Towns, size: Size) -> Measured:
        """Send the requests and check what was recorded."""
        return self.body(towns.get(self.options), size).measured(self.name)


def scenario(options: TownOptions = DEFAULT) -> Callable[[Body], Scenario]:
    """Make a scenario of a function, under its name."""
    return lambda body: Scenario(body.__name__, options, body)


def both_ends(place: Town, check: Check) -> Iterator[tuple[Records, str]]:
    """The hops of a request on its way: tx at the client's node, rx at the server's."""
    for node, kind in ((place.n1, Kind.TX), (place.n2, Kind.RX)):
        yield check.hops(node, kind), f"{node.name} {kind.label}"


def check_both_ends(place: Town, result: HttpResult, *, ipv6: bool = False) -> Check:
    """Every request has one tx and one rx hop in the overlay, without flags, between the right addresses."""
    check = Check.of(place, result)
    client, server = place.client, place.server
    wanted = (client.address6, server.address6) if ipv6 else (client.address, server.address)
    for node, kind in ((place.n1, Kind.TX), (place.n2, Kind.RX)):
        what = f"{node.name} {kind.label}"
        records = check.every_request_once(node, kind)
        check.no_other_kinds(node, kind)
        check.quality(what, records, NONE)
        check.encapsulation(what, records, place.encap, place.vni)
        check.counter(node, "unmatched", 0)
        for name, address in zip(("src", "dst"), wanted, strict=True):
            check.equal(f"{what} {name}", addresses(records, name), {str(address)})
    return check
