# SPDX-License-Identifier: Apache-2.0
"""A real Envoy on loopback, with ports that it chooses itself, and requests to it byte by byte."""

import http.client
import json
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events

from overhop.lab.envoy import OPTIONS, find_envoy
from overhop.sidecar.filters import Data
from tests.kernel.leaks import wait_until
from tests.sidecar.recorder import HEAD_END, Fields, content_length

_TYPE = "type.googleapis.com/envoy"
_PROTOCOLS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Proxy:
    """An Envoy that runs; `ports` by the names of its listeners."""

    ports: Mapping[str, int]
    admin: int
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, path: str) -> str:
        """Of the administration."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=20)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def statistic(self, name: str) -> int:
        """A counter; 0 if it was never touched."""
        stats = json.loads(self.ask(f"/stats?format=json&filter=^{name.replace('.', '[.]')}$"))["stats"]
        return sum(each["value"] for each in stats)


def listener(name: str, route: Data, **manager: object) -> Data:
    """Everything to where `route` says, without headers of Envoy's own."""
    connection_manager = {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "generate_request_id": False,
        "max_request_headers_kb": 96,
        "common_http_protocol_options": {"max_headers_count": 2000},
        "route_config": {
            "name": name,
            "virtual_hosts": [
                {"name": name, "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": route}]}
            ],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_TYPE}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
    }
    filters = [
        {
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": connection_manager | manager,
        }
    ]
    return {"name": name, "address": address(0), "filter_chains": [{"filters": filters}]}


def cluster(name: str, ports: Sequence[int], options: Data | None = None) -> Data:
    """One end point for each port; `options` are its HttpProtocolOptions."""
    endpoints = [{"endpoint": {"address": address(port)}} for port in ports]
    made: Data = {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }
    if options is not None:
        typed = {"@type": f"{_TYPE}.extensions.upstreams.http.v3.HttpProtocolOptions", **options}
        made["typed_extension_protocol_options"] = {_PROTOCOLS: typed}
    return made


def address(port: int) -> Data:
    """On loopback."""
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def validate(bootstrap: Data, env: Mapping[str, str] | None = None) -> str:
    """What `envoy --mode validate` complains of; empty: nothing."""
    argv = (str(find_envoy()), *OPTIONS, "--mode", "validate", "--config-yaml", json.dumps(bootstrap))
    done = subprocess.run(
        argv, env=dict(env or {}), capture_output=True, text=True, timeout=START_S, check=False
    )
    return "" if done.returncode == 0 else done.stderr


@contextmanager
def envoy(
    files: Path, listeners: Sequence[Data], clusters: Sequence[Data], env: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    """Runs it until the end of the block; every listener is up."""
    resources = {"listeners": list(listeners), "clusters": list(clusters)}
    with running(files, {"static_resources": resources}, env) as proxy:
        yield proxy


@contextmanager
def running(files: Path, bootstrap: Data, env: Mapping[str, str] | None = None) -> Iterator[Proxy]:
    """Runs a whole configuration, which has no administration of its own."""
    config = {"admin": {"address": address(0)}, **bootstrap}
    told, log = files / "admin", files / "log"
    told.unlink(missing_ok=True)
    argv = (str(find_envoy()), *OPTIONS, "--admin-address-path", str(told))
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            (*argv, "--config-yaml", json.dumps(config)),
            env=dict(env or {}),
            stdout=stderr,
            stderr=stderr,
        )
    try:
        wait_until(lambda: process.poll() is not None or _is_told(told), "Envoy started", START_S)
        assert process.poll() is None, log.read_text()[-2000:]
        proxy = Proxy({}, int(told.read_text().rpartition(":")[2]), process, log)
        wait_until(lambda: proxy.ask("/ready").strip() == "LIVE", "Envoy ready", START_S)
        statuses = json.loads(proxy.ask("/listeners?format=json"))["listener_statuses"]
        yield Proxy({each["name"]: _port(each) for each in statuses}, proxy.admin, process, log)
    finally:
        process.kill()
        process.wait()


def _is_told(told: Path) -> bool:
    return told.exists() and ":" in told.read_text()


def _port(status: Any) -> int:  # noqa: ANN401  Envoy's own data
    return int(status["local_address"]["socket_address"]["port_value"])


def exchange(port: int, request: bytes) -> bytes:
    """The answer to one request of HTTP/1.1, its body counted by content-length."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(request)
        data = b""
        while HEAD_END not in data or len(data.partition(HEAD_END)[2]) < content_length(data):
            more = sock.recv(1 << 16)
            assert more, f"closed after {data!r}"
            data += more
        return data


def call(port: int, fields: Fields, body: bytes) -> tuple[bytes, Fields]:
    """Body and trailers of the answer to one request of HTTP/2."""
    made = h2.config.H2Configuration(header_encoding=None)
    connection = h2.connection.H2Connection(config=made)
    connection.initiate_connection()
    connection.send_headers(1, fields)
    connection.send_data(1, body, end_stream=True)
    answer, trailers = b"", None
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.sendall(connection.data_to_send())
        while trailers is None:
            data = sock.recv(1 << 16)
            assert data, "closed before the trailers"
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    answer += event.data or b""
                elif isinstance(event, h2.events.TrailersReceived):
                    trailers = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
            sock.sendall(connection.data_to_send())
    return answer, trailers
