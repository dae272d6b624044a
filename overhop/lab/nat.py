# SPDX-License-Identifier: Apache-2.0
"""NAT rules as text for iptables-restore: masquerade as the CNI does it, services as kube-proxy does it.

Sources: flannel pkg/trafficmngr/iptables, Calico felix/rules (nat.go), Kubernetes pkg/proxy/iptables (chain
names, marks, order).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from overhop.lab.underlay import Address, Network


@dataclass(frozen=True, slots=True)
class ServiceRules:
    """One address family's share of a service."""

    name: str
    vip: Address
    port: int
    node_port: int | None
    backends: tuple[tuple[Address, int], ...]


@dataclass(frozen=True, slots=True)
class Masquerade:
    """A CNI's share of the table: its chains, the first of them called by POSTROUTING, and their rules."""

    chains: tuple[str, ...]
    rules: tuple[str, ...]


def flannel(cluster: Network, own: Network) -> Masquerade:
    """Whatever leaves the cluster, and whatever comes into it from outside; `own`: the node's own pods."""
    multicast = "224.0.0.0/4" if cluster.version == 4 else "ff00::/8"
    rules = (
        "-m mark --mark 0x4000/0x4000 -j RETURN",
        f"-s {own} -d {cluster} -j RETURN",
        f"-s {cluster} -d {own} -j RETURN",
        f"! -s {cluster} -d {own} -j RETURN",
        f"-s {cluster} ! -d {multicast} -j MASQUERADE --random-fully",
        f"! -s {cluster} -d {cluster} -j MASQUERADE --random-fully",
    )
    return Masquerade(("FLANNEL-POSTRTG",), tuple(f"-A FLANNEL-POSTRTG {rule}" for rule in rules))


def calico(cluster: Network, tunnel: str) -> Masquerade:
    """What leaves the pool of pods, and what the node itself sends into the tunnel from another address."""
    local = "-m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL"
    return Masquerade(
        ("cali-POSTROUTING", "cali-nat-outgoing"),
        (
            "-A cali-POSTROUTING -j cali-nat-outgoing",
            f"-A cali-POSTROUTING -o {tunnel} {local} -j MASQUERADE --random-fully",
            f"-A cali-nat-outgoing -s {cluster} ! -d {cluster} -j MASQUERADE --random-fully",
        ),
    )


def render(cluster: Network, masquerade: Masquerade, services: Iterable[ServiceRules]) -> str:
    """The whole nat table of one node and family; `cluster`: all pods."""
    chains = ["KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-MARK-MASQ", "KUBE-POSTROUTING", *masquerade.chains]
    rules = [*_hooks(masquerade.chains[0]), *_marks(), *masquerade.rules]
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


def _hooks(masquerade: str) -> list[str]:
    return [
        "-A PREROUTING -j KUBE-SERVICES",
        "-A OUTPUT -j KUBE-SERVICES",
        "-A POSTROUTING -j KUBE-POSTROUTING",
        f"-A POSTROUTING -j {masquerade}",
    ]


def _marks() -> list[str]:
    return [
        "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
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
