# SPDX-License-Identifier: Apache-2.0
"""What a filter costs: three meshes beside each other, and one proxy at its limit, in alternating rounds."""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from overhop.lab import Lab
from overhop.lab.mesh import Mesh, bookinfo
from overhop.sidecar.contexts import Relocation
from overhop.sidecar.filters import Mode, upstream_filters, whole_chain
from overhop.sidecar.module import SEARCH_PATH, ModuleMissingError, module_directory
from overhop.sidecar.protocols import upstream_protocol
from tests.sidecar.proxy import Proxy, cluster, envoy, listener

PROXIES = 7
"""That a request passes one after the other: in, out to details, in, out to reviews, in, out, in."""
CONNECTIONS = 16
SENT = (
    "user-agent: curl/7.88",
    "accept: */*",
    "accept-encoding: gzip, deflate",
    "x-request-id: 3b5f3c7a-9f5c-4a0e-8a9e-2c7d8c5f7a11",
    "cookie: session=abcdef0123456789",
    "end-user: jason",
    "x-envoy-attempt-count: 1",
    "x-envoy-decorator-operation: reviews.bookinfo.svc.cluster.local:9080/*",
    "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate: a=1",
)
"""What a request in the mesh has; the context stands last."""
_REQUESTS, _PER_S = re.compile(r"(\d+) requests in "), re.compile(r"Requests/sec: +([0-9.]+)")
_WRONG = re.compile(r"Non-2xx|Socket errors")


@dataclass(frozen=True, slots=True)
class Round:
    """One variant at its limit, for a moment."""

    requests_per_s: float
    cpu_us: float
    """Of the proxy, for each request."""


def variants() -> list[Mode]:
    """Those that can be measured here; the original comes first."""
    try:
        module_directory()
    except ModuleMissingError:
        return ["off", "lua"]
    return ["off", "lua", "native"]


def latencies_us(
    measured: Sequence[Mode], rounds: int, requests: int, rate_hz: float
) -> dict[Mode, list[float]]:
    """Medians, one for each round, of requests through a mesh at that rate."""
    with ExitStack() as stack:
        meshes = {variant: _mesh(stack, variant) for variant in measured}
        found: dict[Mode, list[float]] = {variant: [] for variant in measured}
        for number in range(rounds + 1):
            for variant in _turned(measured, number):
                lab, mesh = meshes[variant]
                result = lab.external.http(
                    str(mesh.address),
                    mesh.port,
                    path=mesh.path,
                    requests=requests,
                    connections=4,
                    rate_hz=rate_hz,
                    timeout_s=60.0 + requests / rate_hz,
                ).require_ok()
                if number:  # the first round warms up
                    found[variant].append(float(np.median(result.latency_ns)) / 1000)
        return found


def at_the_limit(measured: Sequence[Mode], rounds: int, seconds: float) -> dict[Mode, list[Round]]:
    """One proxy of one thread, 16 connections that wait for nothing but answers."""
    found: dict[Mode, list[Round]] = {variant: [] for variant in measured}
    with tempfile.TemporaryDirectory(prefix="overhop-cost-") as directory, ExitStack() as stack:
        proxy = stack.enter_context(_proxy(Path(directory), measured))
        for number in range(rounds + 1):
            for variant in _turned(measured, number):
                each = _load(proxy, variant, seconds)
                if number:
                    found[variant].append(each)
    return found


def _turned(measured: Sequence[Mode], number: int) -> list[Mode]:
    """Each comes first in turn."""
    at = number % len(measured)
    return [*measured[at:], *measured[:at]]


def _mesh(stack: ExitStack, variant: Mode) -> tuple[Lab, Mesh]:
    lab = stack.enter_context(Lab.make(nodes=2))
    return lab, bookinfo(lab, variant)


@contextmanager
def _proxy(directory: Path, measured: Sequence[Mode]) -> Iterator[Proxy]:
    """A listener for each variant, before another Envoy that answers by itself."""
    for name in ("behind", "before"):
        (directory / name).mkdir()
    answers: Any = listener("answers", {})
    manager = answers["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["virtual_hosts"][0]["routes"] = [
        {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    ]
    listeners = [listener(variant, {"cluster": variant}) for variant in measured]
    env = {SEARCH_PATH: str(module_directory())} if "native" in measured else {}
    with envoy(directory / "behind", [answers], []) as behind:
        clusters = []
        for variant in measured:
            filters = upstream_filters(variant, Relocation())
            chain = {"http_filters": whole_chain(filters)} if filters else {}
            clusters.append(cluster(variant, [behind.ports["answers"]], upstream_protocol("h1") | chain))
        with envoy(directory / "before", listeners, clusters, env) as proxy:
            yield proxy


def _load(proxy: Proxy, variant: str, seconds: float) -> Round:
    headers = [part for line in SENT for part in ("-H", line)]
    url = f"http://127.0.0.1:{proxy.ports[variant]}/reviews/0"
    before_ns = _cpu_ns(proxy.process.pid)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", *headers, url]
    said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True).stdout
    used_ns = _cpu_ns(proxy.process.pid) - before_ns
    requests, per_s = _REQUESTS.search(said), _PER_S.search(said)
    assert requests is not None, said
    assert per_s is not None, said
    assert _WRONG.search(said) is None, said
    return Round(float(per_s.group(1)), used_ns / int(requests.group(1)) / 1000)


def _cpu_ns(pid: int) -> int:
    """Of all threads of a process."""
    threads = os.listdir(f"/proc/{pid}/task")
    return sum(int(Path(f"/proc/{pid}/task/{each}/schedstat").read_text().split()[0]) for each in threads)
