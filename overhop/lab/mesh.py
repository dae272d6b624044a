# SPDX-License-Identifier: Apache-2.0
"""A service mesh in a lab of two nodes: Istio's Bookinfo, each service behind an Envoy of its own.

    with Lab.make(nodes=2) as lab:
        mesh = bookinfo(lab)
        lab.external.http(str(mesh.address), mesh.port, path=mesh.path, requests=100).require_ok()

productpage and details are on n1, reviews and ratings on n2; the client is outside and calls a node port of
n1. Each request so has the hops `STOPS`, all with its trace id. Everything ends with the lab.
"""

import http.client
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from overhop.lab import bookinfo_app, envoy, redirect, underlay
from overhop.lab.hosts import Pod, Service
from overhop.lab.http import await_ready
from overhop.lab.lab import Lab
from overhop.lab.netns import LabError
from overhop.lab.program import Program
from overhop.lab.tracers import SPANS_PORT, Tracer
from overhop.lab.underlay import Address
from overhop.sidecar.contexts import DEFAULT_HEADERS
from overhop.sidecar.filters import Mode
from overhop.sidecar.module import ModuleMissingError, module_directory

NAMESPACE = "bookinfo"
PORT = 9080
NODE_PORT = 30080
PATH = "/productpage"
STOPS = (("n1", "rx"), ("n1", "local"), ("n1", "tx"), ("n2", "rx"), ("n2", "local"))
"""(node, kind) of the hops of each request: client to productpage, productpage to details and, over the wire,
to reviews, reviews to ratings."""
_START_TIMEOUT_S = 60.0
_POLL_S = 0.01
_EVERY_PROTOCOL = 3
"""ETH_P_ALL of linux/if_ether.h."""


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    node: int
    calls: tuple[str, ...]


_PARTS = (
    _Part("productpage", 0, ("details", "reviews")),
    _Part("details", 0, ()),
    _Part("reviews", 1, ("ratings",)),
    _Part("ratings", 1, ()),
)


@dataclass(frozen=True, slots=True)
class Mesh:
    """Four services that run; `address`, `port` and `path` are what the client outside calls."""

    pods: dict[str, Pod]
    services: dict[str, Service]
    address: Address
    port: int
    path: str
    context_offset_bytes: int
    """Where in a request between two sidecars its trace context begins, as read from the wire."""
    relocation: Mode = "lua"
    tracer: Tracer = "opentelemetry"

    def spans(self) -> dict[str, int]:
        """How many spans each sidecar has sent; they come in batches, up to 5 s late."""
        return {name: _ask(pod, SPANS_PORT, "/")["spans"] for name, pod in self.pods.items()}


def bookinfo(lab: Lab, relocation: Mode = "lua", tracer: Tracer = "opentelemetry") -> Mesh:
    """Start the mesh; it answers when this returns.

    Raises LabError, envoy.EnvoyMissingError.
    """
    program = Program(envoy.find_envoy(), _modules(relocation))
    if len(lab.nodes) < 2:
        raise LabError(f"bookinfo: needs two nodes, this lab has {len(lab.nodes)}")
    pods = {part.name: _pod(lab, part) for part in _PARTS}
    services = {part.name: _service(lab, part, pods[part.name]) for part in _PARTS}
    apps = {part.name: _start_app(part, pods[part.name], services) for part in _PARTS}
    sidecars = {
        name: _start_sidecar(program, pod, _sidecar(pod, services, relocation, tracer))
        for name, pod in pods.items()
    }
    for name, pod in pods.items():
        await_ready(apps[name], f"bookinfo {name}")
        _await_sidecar(program.envoy, pod, sidecars[name])
    entry = lab.nodes[0].address
    with _tap(pods["reviews"]) as tap:
        lab.external.http(str(entry), NODE_PORT, path=PATH, context="none").require_ok()
        offset_bytes = _context_offset(tap)
    return Mesh(pods, services, entry, NODE_PORT, PATH, offset_bytes, relocation, tracer)


def _modules(relocation: Mode) -> Path | None:
    """Where the native module is, if it is wanted. Raises LabError: it is not there."""
    if relocation != "native":
        return None
    try:
        return module_directory()
    except ModuleMissingError as error:
        raise LabError(f"sidecar: {error}") from None


def _tap(pod: Pod) -> socket.socket:
    """Hears every frame at a pod's interface."""
    with pod.netns.entered():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK)
        tap.bind((underlay.POD_NIC, _EVERY_PROTOCOL))
    return tap


def _context_offset(tap: socket.socket) -> int:
    """From the first byte of the first request heard to the name of its first header of context."""
    while True:
        try:
            frame = tap.recv(1 << 16)
        except BlockingIOError:
            raise LabError("bookinfo: no request with a context came to reviews") from None
        request = frame[max(0, frame.find(b"GET ")) :].lower()
        found = [request.find(b"\r\n%s:" % name.encode()) for name in DEFAULT_HEADERS]
        if at := min((each for each in found if each > 0), default=0):
            return at + len(b"\r\n")


def _pod(lab: Lab, part: _Part) -> Pod:
    return lab.nodes[part.node].pod(part.name, namespace=NAMESPACE, workload=f"{part.name}-v1")


def _service(lab: Lab, part: _Part, pod: Pod) -> Service:
    """Only what the others do not call has a port on every node."""
    called = {name for each in _PARTS for name in each.calls}
    node_port = None if part.name in called else NODE_PORT
    return lab.service(part.name, port=PORT, backends=[pod], node_port=node_port, namespace=NAMESPACE)


def _start_app(part: _Part, pod: Pod, services: Mapping[str, Service]) -> subprocess.Popen[bytes]:
    calls = [
        {"service": name, "address": str(services[name].vip), "port": PORT, "path": f"/{name}/0"}
        for name in part.calls
    ]
    role = {"name": part.name, "port": PORT, "spans_port": SPANS_PORT, "calls": calls}
    argv = (sys.executable, "-I", "-S", bookinfo_app.__file__, json.dumps(role))
    return pod.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _sidecar(pod: Pod, services: Mapping[str, Service], relocation: Mode, tracer: Tracer) -> envoy.Sidecar:
    """Every sidecar knows every service, as Istio's do."""
    destinations = [envoy.Destination(each.name, str(each.vip), each.port) for each in services.values()]
    return envoy.Sidecar(pod.name, pod.namespace, pod.address.version, destinations, relocation, tracer)


def _start_sidecar(program: Program, pod: Pod, sidecar: envoy.Sidecar) -> subprocess.Popen[bytes]:
    """The rules, and an Envoy that runs as the user whom they let through."""
    _write_rules(pod, sidecar.version)
    argv = ("envoy", *envoy.OPTIONS, "--config-yaml", json.dumps(envoy.bootstrap(sidecar)))
    log = tempfile.TemporaryFile()  # noqa: SIM115  the lab closes it together with the process
    try:
        with pod.netns.entered(), program.opened() as opened:
            process = subprocess.Popen(
                argv,
                executable=opened.executable,
                pass_fds=opened.descriptors,
                user=redirect.PROXY_ID,
                group=redirect.PROXY_ID,
                extra_groups=(),
                cwd="/",
                env=opened.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
    except OSError as error:
        log.close()
        raise LabError(
            f"sidecar of {pod.name}: {program.envoy}: {error.strerror}: is it an Envoy for this machine?"
        ) from error
    process.stderr = log
    pod.processes.append(process)
    return process


def _write_rules(pod: Pod, version: int) -> None:
    if version == 6:
        pod.netns.ip((f"addr add {redirect.LOOPBACK[6].source_of_inbound}/128 dev lo nodad",))
    command = "iptables-restore" if version == 4 else "ip6tables-restore"
    pod.netns.run((command,), text=redirect.render(version))


def _await_sidecar(program: Path, pod: Pod, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not _is_ready(pod):
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise LabError(f"sidecar of {pod.name}: {program} {_complaint(process)}")
        Event().wait(_POLL_S)


def _is_ready(pod: Pod) -> bool:
    with pod.netns.entered():
        connection = http.client.HTTPConnection(redirect.LOOPBACK[4].address, envoy.ADMIN_PORT, timeout=5)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == http.client.OK
        except ConnectionError:
            return False
        finally:
            connection.close()


def _complaint(process: subprocess.Popen[bytes]) -> str:
    code = process.poll()
    lines: Sequence[str] = ()
    if process.stderr is not None:
        process.stderr.seek(0)
        lines = process.stderr.read().decode(errors="replace").strip().splitlines()
    ended = f"not ready after {_START_TIMEOUT_S:.0f} s" if code is None else f"ended with exit code {code}"
    return f"{ended}: {lines[-1] if lines else 'it did not say why'}"


def _ask(pod: Pod, port: int, path: str) -> dict[str, int]:
    """JSON from something on the pod's loopback."""
    with pod.netns.entered():
        connection = http.client.HTTPConnection(redirect.LOOPBACK[4].address, port, timeout=5)
        try:
            connection.request("GET", path)
            answer: dict[str, int] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()
