# SPDX-License-Identifier: Apache-2.0
"""NAT rules as text for iptables-restore: masquerade as flannel does it, services as kube-proxy does it.

Sources: flannel pkg/trafficmngr/iptables, Kubernetes pkg/proxy/iptables (chain names, marks, order).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class ServiceRules:
    """One address family's share of a service."""

    name: str
    vip: Address
    port: int
    node_port: int | None
    backends: tuple[tuple[Address, int], ...]


def render(cluster: Network, own: Network, services: Iterable[ServiceRules]) -> str:
    """The whole nat table of one node and family: `cluster` all pods, `own` the node's own pods."""
    chains = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-MARK-MASQ", "KUBE-POSTROUTING", "FLANNEL-POSTRTG"]
    rules = [*_hooks(), *_marks(), *_flannel(cluster, own)]
    for service in services:
        tag = _tag(service.name, str(service.port))
        chains += [f"KUBE-SVC-{tag}", *(f"KUBE-SEP-{_sep_tag(service, b)}" for b in service.backends)]
        rules += _service(service, cluster, f"KUBE-SVC-{tag}")
        if service.node_port is not None:
            chains.append(f"KUBE-EXT-{tag}")
            rules += _node_port(service.node_port, f"KUBE-EXT-{tag}", f"KUBE-SVC-{tag}")
    rules.append("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")
    builtin = ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")
    head = [*(f":{name} ACCEPT [0:0]" for name in builtin), *(f":{name} - [0:0]" for name in chains)]
    return "\n".join(["*nat", *head, *rules, "COMMIT", ""])


def _hooks() -> list[str]:
    return [
        "-A PREROUTING -j KUBE-SERVICES",
        "-A OUTPUT -j KUBE-SERVICES",
        "-A POSTROUTING -j KUBE-POSTROUTING",
        "-A POSTROUTING -j FLANNEL-POSTRTG",
    ]


def _marks() -> list[str]:
    return [
        "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    ]


def _flannel(cluster: Network, own: Network) -> list[str]:
    multicast = "224.0.0.0/4" if cluster.version == 4 else "ff00::/8"
    return [
        "-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN",
        f"-A FLANNEL-POSTRTG -s {own} -d {cluster} -j RETURN",
        f"-A FLANNEL-POSTRTG -s {cluster} -d {own} -j RETURN",
        f"-A FLANNEL-POSTRTG ! -s {cluster} -d {own} -j RETURN",
        f"-A FLANNEL-POSTRTG -s {cluster} ! -d {multicast} -j MASQUERADE --random-fully",
        f"-A FLANNEL-POSTRTG ! -s {cluster} -d {cluster} -j MASQUERADE --random-fully",
    ]


def _service(service: ServiceRules, cluster: Network, chain: str) -> list[str]:
    to_vip = f"-d {service.vip} -p tcp -m tcp --dport {service.port}"
    rules = [
        f"-A KUBE-SERVICES {to_vip} -j {chain}",
        f"-A {chain} ! -s {cluster} {to_vip} -j KUBE-MARK-MASQ",
    ]
    left = len(service.backends)
    for backend in service.backends:
        endpoint = f"KUBE-SEP-{_sep_tag(service, backend)}"
        share = f" -m statistic --mode random --probability {1 / left:.8f}" if left > 1 else ""
        rules += [f"-A {chain}{share} -j {endpoint}", *_endpoint(endpoint, backend)]
        left -= 1
    return rules


def _endpoint(chain: str, backend: tuple[Address, int]) -> list[str]:
    address, port = backend
    target = f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
    return [
        f"-A {chain} -s {address} -j KUBE-MARK-MASQ",
        f"-A {chain} -p tcp -m tcp -j DNAT --to-destination {target}",
    ]


def _node_port(port: int, chain: str, service_chain: str) -> list[str]:
    return [
        f"-A KUBE-NODEPORTS -p tcp -m tcp --dport {port} -j {chain}",
        f"-A {chain} -j KUBE-MARK-MASQ",
        f"-A {chain} -j {service_chain}",
    ]


def _sep_tag(service: ServiceRules, backend: tuple[Address, int]) -> str:
    return _tag(service.name, str(service.port), f"{backend[0]}:{backend[1]}")


def _tag(*parts: str) -> str:
    """Sixteen characters, as kube-proxy names its chains (iptables allows 28)."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16].upper()
