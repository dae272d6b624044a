# SPDX-License-Identifier: Apache-2.0
"""What a demo plays in: a lab with inhabitants, the trips that requests make through it, and its picture."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from bpf.record import ContextKind
from overhop.demo.found import Route, Sent, Took, shares
from overhop.demo.outcome import NodePlace, ServicePlace, Stage
from overhop.lab import Host, HttpResult, Lab, Service
from overhop.lab.options import Cni
from overhop.sidecar.filters import Mode

JOINED_BY: dict[Cni, str] = {"vxlan": "VXLAN", "vxlan6": "VXLAN over IPv6", "ipip": "IPIP"}


@dataclass(frozen=True, slots=True)
class Trip:
    """Requests of one kind: who sends them, the way they go, the context they begin with."""

    host: Host
    route: Route
    context: ContextKind
    path: str = "/"


@dataclass(frozen=True, slots=True)
class Call:
    """Something to call, and from where."""

    host: Host
    url: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A lab in which everything answers."""

    lab: Lab
    trips: tuple[Trip, ...]
    connections: int
    """Of each trip."""
    rate_hz: float | None
    """Requests per second unless somebody asks for others; None: as fast as answers come."""
    outside: Call
    """For a request by hand, from outside the cluster."""
    inside: Call
    """The same from a pod."""
    sidecar_offset_bytes: int | None = None
    """Where sidecars write the context, read from the wire; None: there are none."""
    relocation: Mode = "off"
    """By what they move it."""


def send(scene: Scene, requests: int, rate_hz: float | None) -> list[Sent]:
    """Equal parts for each trip, one after the other, so that they do not disturb each other."""
    counts = shares(requests, len(scene.trips))
    return [
        _send_one(scene, trip, count, rate_hz or scene.rate_hz)
        for trip, count in zip(scene.trips, counts, strict=True)
        if count
    ]


def stage_of(scene: Scene) -> Stage:
    """The picture."""
    lab = scene.lab
    nodes = tuple(
        NodePlace(node.name, str(node.address), {pod.name: str(pod.address) for pod in node.pods})
        for node in lab.nodes
    )
    services = tuple(
        ServicePlace(f"service {service.name}", str(service.vip), _line(service)) for service in lab.services
    )
    return Stage(nodes, str(lab.external.address), JOINED_BY[lab.options.cni], services)


def _send_one(scene: Scene, trip: Trip, count: int, rate_hz: float | None) -> Sent:
    result = trip.host.http(
        str(trip.route.address),
        trip.route.port,
        path=trip.path,
        requests=count,
        connections=scene.connections,
        context=trip.context.label,
        rate_hz=rate_hz,
        timeout_s=60.0 + (count / rate_hz if rate_hz else 0.0),
    ).require_ok()
    trace_ids = () if trip.context == ContextKind.NONE else tuple(result.trace_ids_hex())
    return Sent(trip.route, trip.context, count, trace_ids, result.source_ports, _took(result))


def _took(result: HttpResult) -> Took:
    ordered_us = sorted((result.latency_ns / 1000).tolist())
    last = len(ordered_us) - 1
    p50_us, p99_us, max_us = (ordered_us[last * share // 100] for share in (50, 99, 100))
    return Took(p50_us, p99_us, max_us, result.elapsed_s, result.sent_late())


def url(address: IPv4Address | IPv6Address, port: int, path: str) -> str:
    """What is called, as curl takes it."""
    return f"http://{endpoint(address, port)}{path}"


def endpoint(address: IPv4Address | IPv6Address, port: int) -> str:
    """`10.0.0.1:80` or `[fd00::1]:80`"""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _line(service: Service) -> str:
    node_port = "" if service.node_port is None else f", node port {service.node_port}"
    backends = ", ".join(f"{host.name}:{service.target_port}" for host in service.backends)
    return f"{endpoint(service.vip, service.port)}{node_port} → {backends}"
