# SPDX-License-Identifier: Apache-2.0
"""The control plane at the size of a large cluster: 5,000 nodes, 150,000 pods, 10,000 services.

Objects and events are as the API server writes them and go through the real decoder into the real state;
planner, HTTP interface and lease are the real ones, in a process of their own, whose CPU and memory are
measured. Agents are connections of this process that do what agents do: send the inventory, wait for the
plan, ask for names. The API server is simulated: a real one of this size needs more machines than one.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from bench.inventory import inventory_ms
from bench.machine import environment

NODES: Final = 5_000
PODS: Final = 150_000
SERVICES: Final = 10_000
CHANGES_PER_S: Final = 200
NAMES_EVERY_S: Final = 10.0
NAMES: Final = 20
"""Addresses that an agent asks for each time."""
SYNC_TIMEOUT_S: Final = 300.0
_TOKEN: Final = "{:024d}"


@dataclass(frozen=True, slots=True)
class Size:
    """How large the cluster is, and for how long it is watched."""

    nodes: int
    pods: int
    services: int
    changes_per_s: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured; docs/kubernetes.md, "How large"."""

    plan_all_s: float
    plan_one_change_ms: float
    controller_rss_mb: float
    controller_cpu_share: float
    agents_converged_s: float
    synced_s: float
    names_per_s: float
    events: int


class Objects:
    """The objects of the cluster, as JSON, and what changes in it."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.version = 1_000_000
        self._random = random.Random(1)

    def page(self, kind: str, start: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Objects of a kind, and where the next page begins (0: nowhere)."""
        total = {
            "nodes": self.size.nodes,
            "namespaces": 101,
            "pods": self.size.pods,
            "services": self.size.services,
            "endpointslices": self.size.services,
            "replicasets": self.size.pods // 5,
        }.get(kind, 0)
        stop = min(start + limit, total)
        if not total:
            return [], 0
        made = getattr(self, f"_{kind}")
        return [made(at) for at in range(start, stop)], stop if stop < total else 0

    def pod_change(self, turn: int) -> list[tuple[str, dict[str, Any]]]:
        """A pod that goes, and one that comes in its place: with its steps, as a kubelet reports them."""
        at = self._random.randrange(self.size.pods)
        new = self.size.pods + turn
        pending = self._pods(new, at)
        pending["status"] = {"phase": "Pending"}
        return [("DELETED", self._pods(at, at)), ("ADDED", pending), ("MODIFIED", self._pods(new, at))]

    def _meta(self, name: str, namespace: str = "", labels: dict[str, str] | None = None) -> dict[str, Any]:
        self.version += 1
        found: dict[str, Any] = {
            "name": name,
            "uid": f"uid-{name}",
            "resourceVersion": str(self.version),
            "labels": labels or {},
            "managedFields": [
                {"manager": "kubelet", "fieldsV1": {f"f:field{each}": {} for each in range(40)}}
            ],
        }
        return found | ({"namespace": namespace} if namespace else {})

    def _nodes(self, at: int) -> dict[str, Any]:
        address = f"172.{16 + at // 65536}.{at // 256 % 256}.{at % 256}"
        return {
            "metadata": self._meta(f"node-{at:05}", labels={"topology.kubernetes.io/zone": f"z{at % 3}"}),
            "spec": {"podCIDR": f"10.{at // 256}.{at % 256}.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": address}]},
        }

    def _namespaces(self, at: int) -> dict[str, Any]:
        name = "kube-system" if at == 100 else f"team-{at}"
        return {"metadata": self._meta(name, labels={"team": str(at)})}

    def _pods(self, at: int, place: int | None = None) -> dict[str, Any]:
        place = at if place is None else place
        node = place % self.size.nodes
        owner = place // 5
        meta = self._meta(
            f"app-{owner}-{at:06}", f"team-{owner % 100}", {"app": f"app-{owner}", "tier": "web"}
        )
        meta["ownerReferences"] = [
            {"kind": "ReplicaSet", "name": f"app-{owner}-5f", "uid": f"uid-rs-{owner}", "controller": True}
        ]
        address = f"10.{node // 256}.{node % 256}.{place // self.size.nodes % 254 + 1}"
        container = {
            "name": "c",
            "image": "registry.example/app:1",
            "env": [{"name": f"E{n}", "value": "x" * 30} for n in range(20)],
        }
        return {
            "metadata": meta,
            "spec": {
                "nodeName": f"node-{node:05}",
                "serviceAccountName": "default",
                "containers": [container],
            },
            "status": {
                "phase": "Running",
                "podIP": address,
                "podIPs": [{"ip": address}],
                "startTime": "2026-01-01T00:00:00Z",
                "conditions": [
                    {"type": kind, "status": "True"} for kind in ("Ready", "Initialized", "PodScheduled")
                ],
            },
        }

    def _services(self, at: int) -> dict[str, Any]:
        return {
            "metadata": self._meta(f"app-{at}", f"team-{at % 100}"),
            "spec": {
                "clusterIP": f"10.{128 + at // 65536}.{at // 256 % 256}.{at % 256}",
                "ports": [{"port": 80, "targetPort": 8080}],
            },
        }

    def _endpointslices(self, at: int) -> dict[str, Any]:
        meta = self._meta(f"app-{at}-x", f"team-{at % 100}", {"kubernetes.io/service-name": f"app-{at}"})
        endpoints = [{"addresses": [f"10.0.0.{each}"], "nodeName": f"node-{each:05}"} for each in range(5)]
        return {"metadata": meta, "addressType": "IPv4", "ports": [{"port": 8080}], "endpoints": endpoints}

    def _replicasets(self, at: int) -> dict[str, Any]:
        meta = self._meta(f"app-{at}-5f", f"team-{at % 100}") | {"uid": f"uid-rs-{at}"}
        meta["ownerReferences"] = [
            {"kind": "Deployment", "name": f"app-{at}", "uid": f"uid-d-{at}", "controller": True}
        ]
        return {"metadata": meta}


class ApiServer:
    """Lists and watches of these objects, and a lease."""

    def __init__(self, objects: Objects) -> None:
        self.events = 0
        self.is_changing = threading.Event()
        self._objects = objects
        self.lease: dict[str, Any] | None = None

        handler = _handler(self, objects)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def changes(self, kind: str) -> Iterator[bytes]:
        """Twenty times a second what changed meanwhile."""
        turn = 0
        next_s = time.monotonic()
        while True:
            next_s += 0.05
            time.sleep(max(0.0, next_s - time.monotonic()))
            if kind != "pods" or not self.is_changing.is_set():
                continue
            lines = []
            for _ in range(self._objects.size.changes_per_s // 20):
                turn += 1
                for what, found in self._objects.pod_change(turn):
                    lines.append(json.dumps({"type": what, "object": found}).encode() + b"\n")
            self.events += len(lines)
            yield b"".join(lines)


def _handler(outer: ApiServer, objects: Objects) -> type[BaseHTTPRequestHandler]:  # noqa: C901  a class
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            place = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(place.query).items()}
            kind = place.path.rsplit("/", 1)[1]
            if "leases" in place.path:
                self._json(200 if outer.lease else 404, outer.lease or {"code": 404})
            elif kind == "kube-system":
                self._json(200, {"metadata": {"name": kind, "uid": "0123456789abcdef"}})
            elif "watch" in query:
                self._watch(kind)
            else:
                self._list(kind, query)

        def do_POST(self) -> None:
            outer.lease = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._json(201, outer.lease)

        do_PUT = do_POST  # noqa: N815  name of the base class

        def _list(self, kind: str, query: dict[str, str]) -> None:
            items, more = objects.page(kind, int(query.get("continue", 0)), int(query["limit"]))
            meta = {"resourceVersion": "1"} | ({"continue": str(more)} if more else {})
            self._json(200, {"metadata": meta, "items": items})

        def _json(self, status: int, found: object) -> None:
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _watch(self, kind: str) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                for lines in outer.changes(kind):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(lines), lines))
                    self.wfile.flush()
            except OSError:
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


class Agents:
    """Connections that do what agents do, in one event loop."""

    def __init__(self, port: int, count: int) -> None:
        self.count = count
        self.converged: set[int] = set()
        self.asked = 0
        self.failures: dict[str, int] = {}
        self._port = port

    async def run(self) -> None:
        """All of them, for ever."""
        await asyncio.gather(*(self._agent(at) for at in range(self.count)))

    async def _agent(self, at: int) -> None:
        await asyncio.sleep(random.random() * 5)
        await asyncio.gather(self._plans(at), self._names(at))

    async def _plans(self, at: int) -> None:
        path = f"/v1/nodes/node-{at:05}"
        inventory = json.dumps(
            {"nic": ["eth0"], "contract": 2, "addresses": [f"10.{at // 256}.{at % 256}.1"]}
        )
        etag = ""
        streams = await self._connected()
        while True:
            wait = "?wait_s=50" if etag else ""
            status, found, _ = await self._ask(streams, at, "GET", path + "/plan" + wait, "", etag)
            if status == 409:
                await self._ask(streams, at, "PUT", path + "/inventory", inventory)
            elif status in (200, 304):
                etag = found or etag
                self.converged.add(at)
            else:
                self.failures[str(status)] = self.failures.get(str(status), 0) + 1
                await asyncio.sleep(0.5 + random.random())

    async def _names(self, at: int) -> None:
        """Once an interval, as far apart as agents are that were not started at the same moment."""
        await asyncio.sleep(random.random() * NAMES_EVERY_S)
        streams = await self._connected()
        while True:
            now_ns = time.time_ns()
            asked = []
            for each in range(NAMES):
                node = (at * 31 + each * 17) % self.count
                address = f"10.{node // 256}.{node % 256}.{each % 30 + 1}"
                asked.append(
                    {"address": address, "from_ns": now_ns - 15 * 10**9, "until_ns": now_ns - 5 * 10**9}
                )
            status, _, _ = await self._ask(streams, at, "POST", "/v1/names", json.dumps({"asked": asked}))
            self.asked += status == 200
            if status != 200:
                self.failures[f"names {status}"] = self.failures.get(f"names {status}", 0) + 1
            await asyncio.sleep(NAMES_EVERY_S)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.2 + random.random())

    @staticmethod
    async def _ask(
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        at: int,
        method: str,
        path: str,
        body: str = "",
        etag: str = "",
    ) -> tuple[int, str, bytes]:
        reader, writer = streams
        head = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {_TOKEN.format(at)}"]
        head += [f"Content-Length: {len(body)}", "Content-Type: application/json"] if body else []
        head += [f"If-None-Match: {etag}"] if etag else []
        writer.write("\r\n".join([*head, "", body]).encode())
        await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        return int(lines[0].split()[1]), headers.get("etag", ""), data


def serve(url: str, tokens: str, port: int) -> None:
    """The controller, in a process of its own."""
    from kubernetes.client import Configuration

    from collector.cluster.api import Api
    from dispatcher.controller import Controller, ControllerConfig
    from dispatcher.identity import TokenFile

    configuration = Configuration()
    configuration.host = url
    config = ControllerConfig(
        "127.0.0.1", port, identities=TokenFile(Path(tokens).read_text()), people=lambda: "people-token"
    )
    Controller(Api(configuration), config).run()


def measure(size: Size) -> Result:
    """A cluster of that size; takes some minutes."""
    objects = Objects(size)
    server = ApiServer(objects)
    with tempfile.TemporaryDirectory(prefix="overhop-control-plane-") as directory:
        tokens = Path(directory, "tokens")
        tokens.write_text("".join(f"node-{at:05} {_TOKEN.format(at)}\n" for at in range(size.nodes)))
        port = _free_port()
        command = [sys.executable, "-m", "bench.control_plane", "--serve", server.url, str(tokens), str(port)]
        process = subprocess.Popen(command)
        try:
            return _measured(size, server, process.pid, port)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _measured(size: Size, server: ApiServer, pid: int, port: int) -> Result:
    began_s = time.monotonic()
    facts = _until_synced(port)
    synced_s = time.monotonic() - began_s
    _say(f"synced after {synced_s:.1f} s")
    agents = Agents(port, size.nodes)
    loop = asyncio.new_event_loop()
    threading.Thread(target=_run_loop, args=(loop, agents), daemon=True).start()
    began_s = time.monotonic()
    while len(agents.converged) < size.nodes:
        if time.monotonic() - began_s > SYNC_TIMEOUT_S:
            raise RuntimeError(
                f"{len(agents.converged)} of {size.nodes} agents have a plan: {agents.failures}"
            )
        time.sleep(0.1)
    converged_s = time.monotonic() - began_s
    _say(f"agents have their plans after {converged_s:.1f} s ({agents.failures or 'no failure'})")
    server.is_changing.set()
    time.sleep(min(10.0, size.seconds))
    before_s, before_asked, events = _cpu_s(pid), agents.asked, server.events
    began_s = time.monotonic()
    time.sleep(size.seconds)
    elapsed_s = time.monotonic() - began_s
    share = (_cpu_s(pid) - before_s) / elapsed_s
    _say(f"{(server.events - events) / elapsed_s:.0f} events/s, {agents.failures or 'no failure'}")
    facts = _facts(port)
    return Result(
        plan_all_s=facts["planning"]["most_s"],
        plan_one_change_ms=facts["planning"]["last_s"] * 1e3,
        controller_rss_mb=_rss_mb(pid),
        controller_cpu_share=round(share, 3),
        agents_converged_s=round(converged_s, 2),
        synced_s=round(synced_s, 1),
        names_per_s=round((agents.asked - before_asked) * NAMES / elapsed_s, 1),
        events=server.events,
    )


def _run_loop(loop: asyncio.AbstractEventLoop, agents: Agents) -> None:
    asyncio.set_event_loop(loop)
    loop.run_until_complete(agents.run())


def _until_synced(port: int) -> dict[str, Any]:
    until_s = time.monotonic() + SYNC_TIMEOUT_S
    while time.monotonic() < until_s:
        try:
            facts = _facts(port)
            if all(each["listed"] for each in facts["watched"].values()) and facts["planning"]["count"]:
                return facts
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(0.2)
    raise RuntimeError("the controller does not know the cluster")


def _facts(port: int) -> dict[str, Any]:
    import urllib.request

    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/cluster")
    request.add_header("Authorization", "Bearer people-token")
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1000, 1)
    return 0.0


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _say(text: str) -> None:
    print(f"control-plane: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=NODES)
    parser.add_argument("--pods", type=int, default=PODS)
    parser.add_argument("--services", type=int, default=SERVICES)
    parser.add_argument(
        "--changes", type=int, default=CHANGES_PER_S, metavar="PER_S", help="pods that change"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of steady state")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], options.serve[1], int(options.serve[2]))
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 40_000), hard), hard))
    size = Size(options.nodes, options.pods, options.services, options.changes, options.seconds)
    result = asdict(measure(size)) | inventory_ms()
    if options.json:
        print(json.dumps({"size": asdict(size), "environment": environment(), **result}))
        return
    for name, value in result.items():
        print(f"{name:24} {value:g}")


if __name__ == "__main__":
    main()
