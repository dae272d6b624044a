# SPDX-License-Identifier: Apache-2.0
"""Which interfaces are the node's NIC: where packets between nodes come in and go out. Pure (docs/nic.md).

Always an interface that a route leads through: of a bond, a VLAN, a bridge the upper one. What passes the
lower one passes the upper one too: on the way in after it (net/core/dev.c, __netif_receive_skb_core: the
handler of a lower one, or a tag taken off, sends it round again), on the way out before it, without its tag.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.network.links import ARPHRD_ETHER, Link
from agent.network.routes import Hop, Ways

TUNNELS: Final = frozenset(
    {"vxlan", "geneve", "ipip", "sit", "ip6tnl", "gre", "gretap", "ip6gre", "ip6gretap"}
)
_OTHERS: Final = TUNNELS | {"wireguard", "tun"}
"""Their packets leave through another interface once more."""


class DiscoveryError(Exception):
    """The interfaces do not say which one is the NIC."""


@dataclass(frozen=True, slots=True)
class Nics:
    """Interfaces, and why they are it."""

    names: tuple[str, ...]
    reason: str


def choose_nics(links: Sequence[Link], ways: Ways) -> Nics:
    """In this order: what carries the overlay, what leads to other nodes and out, the only hardware there is.

    Raises DiscoveryError if nothing could be meant, or more than one without a route.
    """
    of_overlays = _under_overlays(links, ways)
    if of_overlays.names:
        return of_overlays
    of_routes = _by_routes(links, ways)
    if of_routes.names:
        return of_routes
    hardware = [link.name for link in links if link.arphrd == ARPHRD_ETHER and not link.kind]
    if len(hardware) == 1:
        return Nics((hardware[0],), "the only hardware")
    found = f"several could be it: {', '.join(hardware)}" if hardware else "no interface is hardware"
    raise DiscoveryError(f"find the NIC: no default route, and {found}: name it in the plan: `nic: NAME`")


def _under_overlays(links: Sequence[Link], ways: Ways) -> Nics:
    by_index = {link.ifindex: link for link in links}
    under: dict[str, str] = {}
    for link in links:
        if link.kind in TUNNELS and link.is_up:
            for index in _carriers(link, ways, by_index):
                under.setdefault(by_index[index].name, link.name)
    overlays = dict.fromkeys(under.values())
    return Nics(tuple(under), f"underlay of {', '.join(overlays)}")


def _carriers(tunnel: Link, ways: Ways, by_index: dict[int, Link]) -> list[int]:
    """Named by the tunnel, or owner of its own address, or on the way to the nodes that it leads to."""
    if tunnel.underlay_ifindex:
        found = [tunnel.underlay_ifindex]
    elif tunnel.tunnel_local is not None:
        found = [ways.owners.get(tunnel.tunnel_local, 0)]
    else:
        gateways = {
            hop.gateway
            for route in ways.routes
            for hop in route.hops
            if hop.ifindex == tunnel.ifindex and hop.gateway is not None
        }
        found = [hop.ifindex for gateway in sorted(gateways, key=str) for hop in ways.way_to(gateway)]
    return [index for index in dict.fromkeys(found) if index in by_index and _is_outside(by_index[index])]


def _by_routes(links: Sequence[Link], ways: Ways) -> Nics:
    """The default route's, and those with a route by way of somebody else, as routed networks have them.

    A pod may be a gateway too: what leads to pods counts only where there is nothing else, as in nodes that
    are containers themselves.
    """
    outside = {link.ifindex: link.name for link in links if _is_outside(link)}
    names = _through(_default_hops(ways, outside), outside)
    hops = (hop for route in ways.routes if not route.is_default for hop in route.hops)
    via = _through((hop for hop in hops if hop.gateway is not None), outside)
    to_pods = _to_pods(links)
    others = [name for name in via if name not in names and name not in to_pods]
    if not names and not others:
        others = via
    reasons = ["default route"] * bool(names) + ["routes by way of other nodes"] * bool(others)
    return Nics((*names, *others), ", ".join(reasons))


def _to_pods(links: Sequence[Link]) -> frozenset[str]:
    """Veths whose other end is elsewhere, and bridges with one of those as port."""
    veths = [link for link in links if link.kind == "veth" and link.link_netnsid is not None]
    masters = {link.master for link in veths}
    bridges = [link for link in links if link.kind == "bridge" and link.ifindex in masters]
    return frozenset(link.name for link in (*veths, *bridges))


def _default_hops(ways: Ways, outside: dict[int, str]) -> tuple[Hop, ...]:
    """Of the one with the least metric; of IPv6, if IPv4 has none."""
    found = [
        route
        for route in ways.routes
        if route.is_default and any(hop.ifindex in outside for hop in route.hops)
    ]
    best = min(found, key=lambda route: (route.to.version, route.metric), default=None)
    if best is None:
        return ()
    # IPv6 has a route of its own for each way, with equal metrics.
    equal = [route for route in found if (route.to, route.metric) == (best.to, best.metric)]
    return tuple(hop for route in equal for hop in route.hops)


def _through(hops: Iterable[Hop], outside: dict[int, str]) -> list[str]:
    return list(dict.fromkeys(outside[hop.ifindex] for hop in hops if hop.ifindex in outside))


def _is_outside(link: Link) -> bool:
    return link.kind not in _OTHERS and link.name != "lo"
