# SPDX-License-Identifier: Apache-2.0
"""HTTP in the lab, seen from outside: start servers and loads in a namespace, get their results.

Both run as processes of their own (http_server.py, http_client.py) inside the namespace.
"""

import base64
import json
import secrets
import select
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from overhop.lab import http_client, http_server
from overhop.lab.http_client import Load
from overhop.lab.netns import LabError, Netns

LATE_NS = 1_000_000
"""What a request is late by to be called so; a client that is not disturbed stays far below."""
_START_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class HttpResult:
    """Answers of one load; arrays by request number."""

    trace_ids: npt.NDArray[np.void]
    """16 bytes each (V16), as they stand in the record; zeros for loads without context."""
    status: npt.NDArray[np.uint16]
    """HTTP status, 0 where no answer came."""
    latency_ns: npt.NDArray[np.uint64]
    """To the answer: from the write of the request (of its batch, when pipelined), with `rate_hz` from when
    it was due."""
    lag_ns: npt.NDArray[np.uint64]
    """How long after it was due a request was written; zeros without `rate_hz`."""
    errors: dict[str, int]
    """Reason to number of requests or connection attempts that failed."""
    bodies: dict[str, int]
    """First 64 characters of the answers' bodies to their number: which back end answered."""
    source_ports: tuple[int, ...]
    elapsed_s: float

    @property
    def ok(self) -> int:
        """Number of answers with status 200."""
        return int((self.status == 200).sum())

    @property
    def max_lag_ns(self) -> int:
        """How far the client fell behind its rate."""
        return int(self.lag_ns.max())

    def sent_late(self, by_ns: int = LATE_NS) -> int:
        """Number of requests written more than that after they were due."""
        return int((self.lag_ns > by_ns).sum())

    def require_ok(self) -> Self:
        """Itself, if all requests were answered with 200; else LabError with the reasons."""
        if self.ok != len(self.status) or self.errors:
            statuses = {int(s): int((self.status == s).sum()) for s in np.unique(self.status)}
            raise LabError(
                f"http: {self.ok} of {len(self.status)} answered with 200: {statuses}, {self.errors}"
            )
        return self

    def trace_ids_hex(self) -> list[str]:
        """The trace ids as 32 hexadecimal digits."""
        return [trace_id.tobytes().hex() for trace_id in self.trace_ids]


@dataclass(slots=True)
class RunningLoad:
    """A load under way; wait() gives its result."""

    load: Load
    process: subprocess.Popen[bytes]

    def wait(self) -> HttpResult:
        """The result; LabError if the client process broke down."""
        out, err = self.process.communicate(timeout=self.load.timeout_s + _START_TIMEOUT_S)
        if self.process.returncode != 0:
            reason = err.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
            raise LabError(f"http client: exit code {self.process.returncode}: {reason[0]}")
        return _result(self.load, json.loads(out))

    @property
    def running(self) -> bool:
        """The client process has not ended yet."""
        return self.process.poll() is None


def start_load(netns: Netns, load: Load) -> RunningLoad:
    """Start a load client inside the namespace."""
    argv = (sys.executable, "-I", "-S", http_client.__file__)
    process = netns.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if process.stdin is None:
        raise LabError("http client: no pipe to its standard input")
    process.stdin.write(json.dumps(asdict(load)).encode())
    process.stdin.close()
    process.stdin = None
    return RunningLoad(load, process)


def start_server(netns: Netns, port: int, body: str) -> subprocess.Popen[bytes]:
    """Start a server inside the namespace; it listens when this returns. LabError if it cannot."""
    argv = (sys.executable, "-I", "-S", http_server.__file__, str(port), body)
    process = netns.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    await_ready(process, f"http server on port {port} in {netns.name}")
    return process


def await_ready(process: subprocess.Popen[bytes], what: str) -> None:
    """Return once a process has written "ready"; else it is killed and LabError has its last words."""
    if process.stdout is None:
        raise LabError(f"{what}: no pipe from its standard output")
    readable, _, _ = select.select([process.stdout], [], [], _START_TIMEOUT_S)
    if not readable or process.stdout.readline() != b"ready\n":
        process.kill()
        _, err = process.communicate()
        reason = err.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise LabError(f"{what}: {reason[0]}")


def new_seed() -> int:
    """Upper half of the trace ids of one load."""
    return secrets.randbits(64) | 1


def trace_ids(load: Load) -> npt.NDArray[np.void]:
    """The ids of all requests of a load (V16)."""
    halves = np.zeros((load.requests, 2), dtype=">u8")
    if load.context != "none":
        halves[:, 0] = load.seed
        halves[:, 1] = np.arange(1, load.requests + 1)
    return np.frombuffer(halves.tobytes(), dtype="V16")


def _result(load: Load, answer: dict[str, Any]) -> HttpResult:  # Any: fresh from JSON
    return HttpResult(
        trace_ids=trace_ids(load),
        status=np.frombuffer(base64.b64decode(answer["status"]), dtype=np.uint16),
        latency_ns=np.frombuffer(base64.b64decode(answer["latency_ns"]), dtype=np.uint64),
        lag_ns=_lags_ns(load, answer["lag_ns"]),
        errors=answer["errors"],
        bodies=answer["bodies"],
        source_ports=tuple(answer["source_ports"]),
        elapsed_s=answer["elapsed_s"],
    )


def _lags_ns(load: Load, encoded: str) -> npt.NDArray[np.uint64]:
    if load.rate_hz is None:
        return np.zeros(load.requests, dtype=np.uint64)
    return np.frombuffer(base64.b64decode(encoded), dtype=np.uint64)
