# SPDX-License-Identifier: Apache-2.0
"""The lab: nodes in network namespaces over one underlay, built on entry, gone on exit."""

import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from types import FrameType, TracebackType
from typing import Self

from overhop.lab import flannel, nat, netns, ownership
from overhop.lab.hosts import Host, Node, Service, reap, set_offloads
from overhop.lab.netns import LabError, Netns


class Lab:
    """A small cluster network, usable inside a `with` statement."""

    def __init__(self, options: flannel.Options) -> None:
        self.options = options
        self.nodes: tuple[Node, ...] = ()
        self.services: list[Service] = []
        self._claim: ownership.Claim | None = None
        self._old_sigterm: object = None

    @classmethod
    def vxlan(
        cls,
        nodes: int = 2,
        *,
        ipv6: bool = False,
        offloads: bool = True,
        bridge_ageing: bool = True,
        mtu: int = 1500,
    ) -> Self:
        """Nodes joined by a VXLAN overlay as flannel builds it (options: flannel.Options)."""
        return cls(flannel.Options(nodes, ipv6, offloads, bridge_ageing, mtu))

    def __enter__(self) -> Self:
        netns.require_tools()
        netns.require_bridge_netfilter()
        ownership.sweep()
        self._catch_sigterm()
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
    ) -> Service:
        """A service address (10.96.0.0/16) for back ends on any node, with a port on every node if asked."""
        number = 10 + len(self.services)
        service = Service(
            name,
            flannel.SERVICES[number],
            flannel.SERVICES6[number] if self.options.ipv6 else None,
            port,
            target_port or port,
            node_port,
            tuple(backends),
        )
        self.services.append(service)
        self._write_nat()
        return service

    def set_backends(self, service: Service, backends: Sequence[Host]) -> Service:
        """Replace a service's back ends; connections that exist keep theirs."""
        changed = replace(service, backends=tuple(backends))
        self.services[self.services.index(service)] = changed
        self._write_nat()
        return changed

    def topology(self) -> dict[str, object]:
        """Everything that is there, as plain data for JSON."""
        return {
            "name": self.name,
            "nodes": [node.as_topology() for node in self.nodes],
            "external": {"netns": self.external.netns.name, "addresses": self.external.addresses},
            "services": [service.as_topology() for service in self.services],
        }

    def close(self) -> None:
        """End everything that runs in the lab and remove it; a signal meanwhile waits until this is done."""
        claim, self._claim = self._claim, None
        with _SignalsIgnored():
            if claim is not None:
                namespaces = netns.named(f"{claim.name}-")
                netns.end_processes(namespaces)
                for host in self._hosts():
                    reap(host)
                netns.delete(namespaces)
                claim.release()
            self._release_sigterm()

    def _hosts(self) -> list[Host]:
        pods = [pod for node in self.nodes for pod in node.pods]
        return [*self.nodes, *([self.external] if self.nodes else []), *pods]

    def _build(self) -> None:
        plots = [flannel.Plot(number) for number in range(1, self.options.nodes + 1)]
        names = ["wire", "external", *(f"n{plot.number}" for plot in plots)]
        self.wire, outside, *insides = netns.create(f"{self.name}-{name}" for name in names)
        for place in (self.wire, outside):
            place.sysctl(flannel.sysctls(self.options.ipv6, forward=False))
        self.wire.sysctl({"net/bridge/bridge-nf-call-iptables": 0, "net/bridge/bridge-nf-call-ip6tables": 0})
        self.wire.ip(flannel.wire())
        self.external = self._external(outside)
        self.nodes = tuple(self._node(plot, place) for plot, place in zip(plots, insides, strict=True))
        for node in self.nodes:
            others = [plot for plot in plots if plot != node.plot]
            node.netns.ip(flannel.neighbours(others, self.options.ipv6))
            node.netns.bridge(flannel.forwarding_database(others))
        self._write_nat()
        if not self.options.offloads:
            set_offloads(self.wire, ("external", *(node.name for node in self.nodes)), on=False)

    def _external(self, place: Netns) -> Host:
        self.wire.ip(flannel.cable("external", place.name, self.options.mtu))
        place.ip(flannel.underlay_host(flannel.EXTERNAL, flannel.EXTERNAL6, self.options.ipv6))
        if not self.options.offloads:
            set_offloads(place, (flannel.NIC,), on=False)
        return Host("external", place, flannel.EXTERNAL, flannel.EXTERNAL6 if self.options.ipv6 else None)

    def _node(self, plot: flannel.Plot, place: Netns) -> Node:
        ipv6, name = self.options.ipv6, f"n{plot.number}"
        place.sysctl(flannel.sysctls(ipv6, forward=True))
        self.wire.ip(flannel.cable(name, place.name, self.options.mtu))
        place.ip(
            [*flannel.underlay_host(plot.address, plot.address6, ipv6), *flannel.node(plot, self.options)]
        )
        if not self.options.offloads:
            set_offloads(place, (flannel.NIC, flannel.OVERLAY, flannel.POD_BRIDGE), on=False)
        return Node(
            name,
            place,
            plot.address,
            plot.address6 if ipv6 else None,
            number=plot.number,
            lab=self.name,
            options=self.options,
        )

    def _write_nat(self) -> None:
        for node in self.nodes:
            rules = [_rules4(service) for service in self.services]
            node.netns.run(("iptables-restore",), text=nat.render(flannel.CLUSTER, node.plot.subnet, rules))
            if self.options.ipv6:
                rules = [_rules6(service) for service in self.services]
                text = nat.render(flannel.CLUSTER6, node.plot.subnet6, rules)
                node.netns.run(("ip6tables-restore",), text=text)

    def _catch_sigterm(self) -> None:
        """SIGTERM leaves nothing: where nobody handles it, it becomes SystemExit, which closes the lab."""
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._old_sigterm = signal.signal(signal.SIGTERM, _exit_on_signal)

    def _release_sigterm(self) -> None:
        if self._old_sigterm is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._old_sigterm = None


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


class _SignalsIgnored:
    """SIGINT and SIGTERM have no effect inside; only the main thread can arrange that."""

    _NUMBERS = (signal.SIGINT, signal.SIGTERM)

    def __enter__(self) -> None:
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, signal.SIG_IGN) for number in self._NUMBERS}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


def _rules4(service: Service) -> nat.ServiceRules:
    backends = tuple((host.address, service.target_port) for host in service.backends)
    return nat.ServiceRules(service.name, service.vip, service.port, service.node_port, backends)


def _rules6(service: Service) -> nat.ServiceRules:
    if service.vip6 is None:
        raise LabError(f"service {service.name}: it has no IPv6 address: build the lab with ipv6=True")
    backends = tuple(
        (host.address6, service.target_port) for host in service.backends if host.address6 is not None
    )
    return nat.ServiceRules(service.name, service.vip6, service.port, service.node_port, backends)
