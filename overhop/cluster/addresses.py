# SPDX-License-Identifier: Apache-2.0
"""Where a node's own packets to pods come from: what a NetworkPolicy for agents has to let in. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import Any, Final

Network = IPv4Network | IPv6Network
_FLANNEL: Final = "flannel.alpha.coreos.com/backend-type"
_CALICO: Final = tuple(
    f"projectcalico.org/{name}"
    for name in (
        "IPv4IPIPTunnelAddr",
        "IPv4VXLANTunnelAddr",
        "IPv6VXLANTunnelAddr",
        "IPv4WireguardInterfaceAddr",
        "IPv6WireguardInterfaceAddr",
    )
)
"""Annotations of nodes; what leaves by a tunnel has the tunnel device's address."""


def node_cidrs(nodes: Iterable[Mapping[str, Any]]) -> list[str]:
    """CIDRs of all nodes (objects of the API), as few as hold exactly their addresses; text nobody can read
    is left out."""
    found: dict[int, set[Network]] = {4: set(), 6: set()}
    for node in nodes:
        for each in _addresses(node):
            found[each.version].add(each)
    return [
        str(each)
        for family in found.values()
        for each in collapse_addresses(sorted(family))  # type: ignore[type-var]  # one family at a time
    ]


def _addresses(node: Mapping[str, Any]) -> Iterator[Network]:
    annotations = node["metadata"].get("annotations") or {}
    texts = [each["address"] for each in _listed(node, "addresses") if each["type"] == "InternalIP"]
    texts += [annotations[name] for name in _CALICO if name in annotations]
    for text in texts:
        yield from _network(text)
    if _FLANNEL in annotations:
        for text in node.get("spec", {}).get("podCIDRs") or ():
            yield from _flannels(text)


def _flannels(pods: str) -> Iterator[Network]:
    """Its VXLAN device has the first address of the node's pod network, the bridge of the pods the second."""
    for network in _network(pods):
        first = network.network_address
        yield from (ip_network(first + each) for each in range(2) if first + each in network)


def _network(text: str) -> Iterator[Network]:
    try:
        yield ip_network(text) if "/" in text else ip_network(ip_address(text))
    except ValueError:
        return


def _listed(node: Mapping[str, Any], key: str) -> list[dict[str, str]]:
    return list(node.get("status", {}).get(key) or ())
