# SPDX-License-Identifier: Apache-2.0
"""What a lab consists of: nodes, pods, an external client; processes run in them."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from pathlib import Path
from threading import Event
from typing import Any

from agent.network.links import link_by_name
from overhop.lab import http, netns, plans, underlay
from overhop.lab.http import HttpResult, RunningLoad
from overhop.lab.http_client import Load
from overhop.lab.netns import LabError, Netns
from overhop.lab.options import Options
from overhop.lab.overlay import Berth, Overlay
from overhop.lab.underlay import Address, Network, Pair, Plot

OFFLOADS_OFF = ("gro", "off", "tso", "off", "gso", "off")
_CARRIER_TIMEOUT_S = 10.0
_POLL_S = 0.002
OFFLOADS_ON = ("gro", "on", "tso", "on", "gso", "on")


@dataclass(slots=True, eq=False)
class Host:
    """Something with a network stack of its own, in which processes run."""

    name: str
    netns: Netns
    address: Address
    """The one to call: IPv4, in a lab without IPv4 the IPv6 address."""
    address6: IPv6Address | None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)

    @property
    def addresses(self) -> list[str]:
        """All addresses as text, the one to call first."""
        return _texts(self.address, self.address6)

    def popen(
        self,
        argv: Sequence[str],
        *,
        stdout: int | None = None,
        stderr: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process here; it ends with the lab at the latest."""
        process = self.netns.popen(argv, stdout=stdout, stderr=stderr, env=env)
        self.processes.append(process)
        return process

    def run(self, *argv: str, timeout_s: float = 30.0) -> str:
        """Run a command here to its end, return its output; LabError if it fails."""
        return self.netns.run(argv, timeout_s=timeout_s)

    def serve_http(self, port: int = 80, body: str | None = None) -> None:
        """Start an HTTP/1.1 keep-alive server that answers with `body` (default: the host's name)."""
        self.processes.append(http.start_server(self.netns, port, self.name if body is None else body))

    def http(
        self,
        target: "Host | Service | str",
        port: int | None = None,
        **options: Any,  # noqa: ANN401  # Load checks them
    ) -> HttpResult:
        """Send requests, wait for the result; options are the fields of Load (`requests=9`)."""
        return self.start_http(target, port, **options).wait()

    def start_http(
        self,
        target: "Host | Service | str",
        port: int | None = None,
        *,
        ipv6: bool = False,
        **options: Any,  # noqa: ANN401  # Load checks them
    ) -> RunningLoad:
        """Start sending requests, return at once."""
        address, default_port = _destination(target, ipv6)
        load = Load(address, port or default_port, options.pop("seed", http.new_seed()), **options)
        running = http.start_load(self.netns, load)
        self.processes.append(running.process)
        return running


@dataclass(slots=True, eq=False)
class Pod(Host):
    """A pod: a namespace behind a veth pair."""

    namespace: str = "default"
    """Kubernetes namespace."""
    workload: str = ""
    vport: str = ""
    """Name of the host-side veth in the node's namespace."""


@dataclass(slots=True, eq=False)
class Cluster:
    """What the nodes of one lab share."""

    name: str
    """Prefix of the names of namespaces."""
    options: Options
    overlay: Overlay
    nodes: list["Node"] = field(default_factory=list)
    services: list["Service"] = field(default_factory=list)

    def changed(self) -> None:
        """Pods or services came or went: write the kept plans again."""
        for node in self.nodes:
            node.write_plans()


@dataclass(slots=True, eq=False, kw_only=True)
class Node(Host):
    """A node: NIC eth0 on the underlay, the overlay's devices, pods. Processes use the host's network."""

    number: int
    cluster: Cluster = field(repr=False)
    pods: list[Pod] = field(default_factory=list)
    _last_pod_number: int = 1
    _kept_plans: dict[Path, dict[str, object]] = field(default_factory=dict, repr=False)

    @property
    def plot(self) -> Plot:
        """The node's addresses and subnets."""
        return Plot(self.number)

    @property
    def overlay(self) -> Overlay:
        """The CNI."""
        return self.cluster.overlay

    def vport_name(self, pod: str) -> str:
        """The interface that a pod of this name has or would have."""
        return self.overlay.vport(self.cluster.name, pod)

    def pod(self, name: str, namespace: str = "default", workload: str | None = None) -> Pod:
        """Create a pod; its name is unique in the lab. It can be reached when this returns."""
        options, plot, number = self.cluster.options, self.plot, self._free_pod_number()
        (inside,) = netns.create((f"{self.cluster.name}-{name}",))
        inside.sysctl(underlay.sysctls(options, forward=False))
        vport = self.vport_name(name)
        self.overlay.add_pod(self.netns, inside, Berth(vport, plot, number))
        self._await_carrier(vport)
        pair = Pair.of(options, plot.subnet[number], plot.subnet6[number])
        pod = Pod(
            name,
            inside,
            pair.primary,
            pair.six,
            namespace=namespace,
            workload=workload or name,
            vport=vport,
        )
        self.pods.append(pod)
        if not options.offloads:
            set_offloads(self.netns, (vport,), on=False)
            set_offloads(inside, (underlay.POD_NIC,), on=False)
        self.cluster.changed()
        return pod

    def _await_carrier(self, vport: str) -> None:
        """The bridge forwards once the kernel has dealt with the carrier; CNI plugins wait for it as well."""
        deadline_s = time.monotonic() + _CARRIER_TIMEOUT_S
        with self.netns.entered():
            while (link := link_by_name(vport)) is None or not link.is_running:
                if time.monotonic() > deadline_s:
                    raise LabError(f"pod interface {vport} on {self.name}: no carrier: look at dmesg")
                Event().wait(_POLL_S)

    def delete_pod(self, pod: Pod) -> None:
        """End a pod's processes and remove it."""
        self.pods.remove(pod)
        netns.end_processes((pod.netns,))
        reap(pod)
        self.netns.ip((f"link del {pod.vport}",))
        netns.delete((pod.netns,))
        self.cluster.changed()

    def plan(self) -> dict[str, object]:
        """What a standalone agent on this node shall do, as its YAML file says it (docs/plan.md)."""
        return plans.plan(self)

    def keep_plan(self, path: Path, sections: Mapping[str, object] | None = None) -> None:
        """Write plan() with further sections to a file, now and whenever a pod or service comes or goes.

        An agent that follows the file hears of later pods so. Its directory must outlive the lab.
        """
        self._kept_plans[path] = dict(sections or {})
        plans.write(path, self.plan() | self._kept_plans[path])

    def write_plans(self) -> None:
        """Write all kept plans again."""
        for path, sections in self._kept_plans.items():
            plans.write(path, self.plan() | sections)

    def as_topology(self) -> dict[str, object]:
        """The node as data."""
        return {
            "name": self.name,
            "netns": self.netns.name,
            "nic": underlay.NIC,
            "addresses": self.addresses,
            "overlay": self.overlay.device,
            "pod_subnets": _texts(*self._pod_subnets()),
            "vports": [
                {
                    "ifname": pod.vport,
                    "pod": pod.name,
                    "namespace": pod.namespace,
                    "workload": pod.workload,
                    "addresses": pod.addresses,
                    "netns": pod.netns.name,
                }
                for pod in self.pods
            ],
        }

    def _pod_subnets(self) -> tuple[Network, Network | None]:
        options, plot = self.cluster.options, self.plot
        four, six = plot.subnet, plot.subnet6 if options.has_ipv6 else None
        return (four, six) if options.has_ipv4 else (plot.subnet6, None)

    def _free_pod_number(self) -> int:
        """Host part of the next address, in turn as the host-local CNI plugin gives them: 2, 3, ..."""
        used = {int(pod.address) & 0xFF for pod in self.pods}
        for step in range(underlay.MAX_PODS_PER_NODE):
            number = (self._last_pod_number - 1 + step) % underlay.MAX_PODS_PER_NODE + 2
            if number not in used:
                self._last_pod_number = number
                return number
        raise LabError(
            f"pod on {self.name}: all {underlay.MAX_PODS_PER_NODE} addresses are used: delete pods"
        )


@dataclass(frozen=True, slots=True)
class Service:
    """A service: one virtual address and its back ends, translated on every node."""

    name: str
    namespace: str
    vip: Address
    """The one to call: IPv4, in a lab without IPv4 the IPv6 address."""
    vip6: IPv6Address | None
    port: int
    target_port: int
    node_port: int | None
    backends: tuple[Host, ...]

    @property
    def addresses(self) -> list[str]:
        """All addresses as text, the one to call first."""
        return _texts(self.vip, self.vip6)

    def as_topology(self) -> dict[str, object]:
        """The service as data."""
        return {
            "name": self.name,
            "namespace": self.namespace,
            "vips": self.addresses,
            "port": self.port,
            "target_port": self.target_port,
            "node_port": self.node_port,
            "backends": [{"name": host.name, "addresses": host.addresses} for host in self.backends],
        }


def _texts(*things: Address | Network | None) -> list[str]:
    return list(dict.fromkeys(str(thing) for thing in things if thing is not None))


def set_offloads(place: Netns, devices: Sequence[str], *, on: bool) -> None:
    """GRO, TSO and GSO of devices."""
    for device in devices:
        place.run(("ethtool", "-K", device, *(OFFLOADS_ON if on else OFFLOADS_OFF)))


def reap(host: Host) -> None:
    """Collect the ended processes of a host (their exit codes are of no interest to anybody)."""
    for process in host.processes:
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _destination(target: Host | Service | str, ipv6: bool) -> tuple[str, int]:
    if isinstance(target, str):
        return target, 80
    if isinstance(target, Service):
        address, port = target.vip6 if ipv6 else target.vip, target.port
    else:
        address, port = target.address6 if ipv6 else target.address, 80
    if address is None:
        raise LabError(f"http to {target.name}: it has no IPv6 address: build the lab with one")
    return str(address), port
