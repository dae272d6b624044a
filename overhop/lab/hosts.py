# SPDX-License-Identifier: Apache-2.0
"""What a lab consists of: nodes, pods, an external client; processes run in them."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from threading import Event
from typing import Any

from agent.links import link_by_name
from overhop.lab import flannel, http, netns
from overhop.lab.http import HttpResult, RunningLoad
from overhop.lab.http_client import Load
from overhop.lab.netns import LabError, Netns

OFFLOADS_OFF = ("gro", "off", "tso", "off", "gso", "off")
_CARRIER_TIMEOUT_S = 10.0
_POLL_S = 0.002
OFFLOADS_ON = ("gro", "on", "tso", "on", "gso", "on")


@dataclass(slots=True, eq=False)
class Host:
    """Something with a network stack of its own, in which processes run."""

    name: str
    netns: Netns
    address: IPv4Address
    address6: IPv6Address | None
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)

    @property
    def addresses(self) -> list[str]:
        """All addresses as text."""
        return [str(address) for address in (self.address, self.address6) if address is not None]

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
    """A pod: a namespace behind a veth pair on its node's bridge."""

    namespace: str = "default"
    """Kubernetes namespace."""
    workload: str = ""
    vport: str = ""
    """Name of the host-side veth in the node's namespace."""

    def as_vport(self) -> dict[str, object]:
        """Entry of the agent's plan (design §6)."""
        return {
            "match": self.vport,
            "namespace": self.namespace,
            "pod": self.name,
            "workload": self.workload,
            "addresses": self.addresses,
        }


@dataclass(slots=True, eq=False)
class Node(Host):
    """A node: NIC eth0 on the underlay, flannel.1, cni0, pods. Processes here use the host's network."""

    number: int = 0
    lab: str = ""
    options: flannel.Options = field(default_factory=flannel.Options)
    pods: list[Pod] = field(default_factory=list)
    _last_pod_number: int = 1

    @property
    def plot(self) -> flannel.Plot:
        """The node's addresses and subnets."""
        return flannel.Plot(self.number)

    def pod(self, name: str, namespace: str = "default", workload: str | None = None) -> Pod:
        """Create a pod; its name is unique in the lab. It can be reached when this returns."""
        number = self._free_pod_number()
        (inside,) = netns.create((f"{self.lab}-{name}",))
        inside.sysctl(flannel.sysctls(self.options.ipv6, forward=False))
        vport = flannel.vport_name(self.lab, name)
        plot = self.plot
        self.netns.ip(flannel.pod_in_node(vport, inside.name, self.options))
        inside.ip(flannel.pod_inside(plot, number, self.options.ipv6))
        self._await_carrier(vport)
        pod = Pod(
            name,
            inside,
            plot.subnet[number],
            plot.subnet6[number] if self.options.ipv6 else None,
            namespace=namespace,
            workload=workload or name,
            vport=vport,
        )
        self.pods.append(pod)
        if not self.options.offloads:
            set_offloads(self.netns, (vport,), on=False)
            set_offloads(inside, (flannel.POD_NIC,), on=False)
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

    def plan(self) -> dict[str, object]:
        """What a standalone agent on this node shall do, as its YAML file says it (design §6)."""
        return {"nic": flannel.NIC, "vports": [pod.as_vport() for pod in self.pods]}

    def as_topology(self) -> dict[str, object]:
        """The node as data."""
        return {
            "name": self.name,
            "netns": self.netns.name,
            "nic": flannel.NIC,
            "addresses": self.addresses,
            "overlay": flannel.OVERLAY,
            "pod_subnet": str(self.plot.subnet),
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

    def _free_pod_number(self) -> int:
        """Host part of the next address, in turn as the host-local CNI plugin gives them: 2, 3, ..."""
        used = {int(pod.address) & 0xFF for pod in self.pods}
        for step in range(flannel.MAX_PODS_PER_NODE):
            number = (self._last_pod_number - 1 + step) % flannel.MAX_PODS_PER_NODE + 2
            if number not in used:
                self._last_pod_number = number
                return number
        raise LabError(f"pod on {self.name}: all {flannel.MAX_PODS_PER_NODE} addresses are used: delete pods")


@dataclass(frozen=True, slots=True)
class Service:
    """A service: one virtual address and its back ends, translated on every node."""

    name: str
    vip: IPv4Address
    vip6: IPv6Address | None
    port: int
    target_port: int
    node_port: int | None
    backends: tuple[Host, ...]

    def as_topology(self) -> dict[str, object]:
        """The service as data."""
        return {
            "name": self.name,
            "vips": [str(vip) for vip in (self.vip, self.vip6) if vip is not None],
            "port": self.port,
            "target_port": self.target_port,
            "node_port": self.node_port,
            "backends": [{"name": host.name, "addresses": host.addresses} for host in self.backends],
        }


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
        raise LabError(f"http to {target.name}: it has no IPv6 address: build the lab with ipv6=True")
    return str(address), port
