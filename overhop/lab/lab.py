# SPDX-License-Identifier: Apache-2.0
"""The lab: nodes in network namespaces over one underlay, built on entry, gone on exit."""

import signal
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from overhop import signals
from overhop.claims import Claim
from overhop.lab import ipip, nat, netns, ownership, underlay
from overhop.lab.calico import Calico
from overhop.lab.flannel import Flannel
from overhop.lab.hosts import Cluster, Host, Node, Service, reap, set_offloads
from overhop.lab.netns import LabError, Netns
from overhop.lab.options import Cni, Options
from overhop.lab.overlay import Overlay
from overhop.lab.underlay import NIC, Network, Pair, Plot


class Lab:
    """A small cluster network, usable inside a `with` statement."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.nodes: tuple[Node, ...] = ()
        self.services: list[Service] = []
        self._claim: Claim | None = None
        self._overlay: Overlay | None = None
        self._signals = signals.FirstOf((signal.SIGTERM, signal.SIGHUP))

    @classmethod
    def make(
        cls,
        cni: Cni = "vxlan",
        nodes: int = 2,
        *,
        ipv6: bool = False,
        offloads: bool = True,
        bridge_ageing: bool = True,
        mtu: int = 1500,
    ) -> Self:
        """Nodes joined as the CNI does it (fields of Options). Raises ValueError."""
        return cls(Options(cni, nodes, ipv6, offloads, bridge_ageing, mtu))

    def __enter__(self) -> Self:
        netns.require_tools()
        netns.require_bridge_netfilter()
        ownership.sweep()
        self._signals.__enter__()
        try:
            self._claim = ownership.claim()
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        """Prefix of the names of its namespaces."""
        if self._claim is None:
            raise LabError("lab: not up: use it inside its with statement")
        return self._claim.name

    def service(
        self,
        name: str,
        *,
        backends: Sequence[Host],
        port: int = 80,
        target_port: int | None = None,
        node_port: int | None = None,
        namespace: str = "default",
    ) -> Service:
        """A service address for back ends on any node, with a port on every node if asked."""
        number = 10 + len(self.services)
        vips = Pair.of(self.options, underlay.SERVICES[number], underlay.SERVICES6[number])
        service = Service(
            name, namespace, vips.primary, vips.six, port, target_port or port, node_port, tuple(backends)
        )
        self.services.append(service)
        self._services_changed()
        return service

    def set_backends(self, service: Service, backends: Sequence[Host]) -> Service:
        """Replace a service's back ends; connections that exist keep theirs."""
        changed = replace(service, backends=tuple(backends))
        self.services[self.services.index(service)] = changed
        self._services_changed()
        return changed

    def topology(self) -> dict[str, object]:
        """Everything that is there, as plain data for JSON."""
        return {
            "name": self.name,
            "cni": self.options.cni,
            "nodes": [node.as_topology() for node in self.nodes],
            "external": {"netns": self.external.netns.name, "addresses": self.external.addresses},
            "services": [service.as_topology() for service in self.services],
        }

    def close(self) -> None:
        """End everything that runs in the lab and remove it; signals meanwhile have no effect."""
        with signals.Ignored():
            claim, self._claim = self._claim, None
            if claim is not None:
                namespaces = netns.named(f"{claim.name}-")
                netns.end_processes(namespaces)
                for host in self._hosts():
                    reap(host)
                netns.delete(namespaces)
                if self._overlay is not None:
                    self._overlay.close()
                claim.release()
        self._signals.__exit__(None, None, None)

    def _hosts(self) -> list[Host]:
        pods = [pod for node in self.nodes for pod in node.pods]
        return [*self.nodes, *([self.external] if self.nodes else []), *pods]

    def _build(self) -> None:
        plots = [Plot(number) for number in range(1, self.options.nodes + 1)]
        names = ["wire", "external", *(f"n{plot.number}" for plot in plots)]
        self.wire, outside, *insides = netns.create(f"{self.name}-{name}" for name in names)
        for place in (self.wire, outside):
            place.sysctl(underlay.sysctls(self.options, forward=False))
        self.wire.sysctl({"net/bridge/bridge-nf-call-iptables": 0, "net/bridge/bridge-nf-call-ip6tables": 0})
        self.wire.ip(underlay.wire())
        self.external = self._external(outside)
        self._overlay = self._choose_overlay()
        cluster = Cluster(self.name, self.options, self._overlay, services=self.services)
        for plot, place in zip(plots, insides, strict=True):
            cluster.nodes.append(self._node(cluster, plot, place))
        self.nodes = tuple(cluster.nodes)
        for node in self.nodes:
            cluster.overlay.connect(node.netns, [plot for plot in plots if plot != node.plot])
        self._write_nat()
        if not self.options.offloads:
            set_offloads(self.wire, ("external", *(node.name for node in self.nodes)), on=False)

    def _choose_overlay(self) -> Overlay:
        if self.options.cni == "ipip":
            return Calico(self.options, ipip.tunnel(self.wire))
        return Flannel(self.options)

    def _external(self, place: Netns) -> Host:
        self.wire.ip(underlay.cable("external", place.name, self.options.mtu))
        place.ip(underlay.external(self.options))
        if not self.options.offloads:
            set_offloads(place, (NIC,), on=False)
        pair = Pair.of(self.options, underlay.EXTERNAL, underlay.EXTERNAL6)
        return Host("external", place, pair.primary, pair.six)

    def _node(self, cluster: Cluster, plot: Plot, place: Netns) -> Node:
        name = f"n{plot.number}"
        place.sysctl(underlay.sysctls(self.options, forward=True))
        self.wire.ip(underlay.cable(name, place.name, self.options.mtu))
        place.ip(underlay.node(plot, self.options))
        cluster.overlay.build(place, plot)
        if not self.options.offloads:
            set_offloads(place, (NIC, *cluster.overlay.devices), on=False)
        pair = Pair.of(self.options, plot.address, plot.address6)
        return Node(name, place, pair.primary, pair.six, number=plot.number, cluster=cluster)

    def _services_changed(self) -> None:
        self._write_nat()
        for node in self.nodes:
            node.write_plans()

    def _write_nat(self) -> None:
        for node in self.nodes:
            if self.options.has_ipv4:
                self._restore(node, "iptables-restore", underlay.CLUSTER, node.plot.subnet)
            if self.options.has_ipv6:
                self._restore(node, "ip6tables-restore", underlay.CLUSTER6, node.plot.subnet6)

    def _restore(self, node: Node, command: str, cluster: Network, own: Network) -> None:
        rules = [_rules(service, cluster.version) for service in self.services]
        node.netns.run((command,), text=nat.render(cluster, node.overlay.masquerade(cluster, own), rules))


def _rules(service: Service, version: int) -> nat.ServiceRules:
    """One family's share of a service; back ends without an address of the family are not in it."""
    vip = service.vip6 if version == 6 else service.vip
    if vip is None:
        raise LabError(f"service {service.name}: it has no IPv6 address, but the lab has")
    found = [host.address6 if version == 6 else host.address for host in service.backends]
    backends = tuple((address, service.target_port) for address in found if address is not None)
    return nat.ServiceRules(service.name, vip, service.port, service.node_port, backends)
