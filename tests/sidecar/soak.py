# SPDX-License-Identifier: Apache-2.0
"""An Envoy under load: what it takes of memory, and what the server got."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from overhop.sidecar.protocols import upstream_protocol
from tests.sidecar.differential import NAMES
from tests.sidecar.filtering import Filtering
from tests.sidecar.header_sets import random_request
from tests.sidecar.load import load
from tests.sidecar.proxy import listener
from tests.sidecar.recorder import OK, Recorder, recording_http1

CLIENTS = 4
SAMPLE_S = 0.5
SETS = 300
"""Random requests that are sent again and again, of up to 60 KB."""


@dataclass
class Soaked:
    """What came of it."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    with_context: int = 0
    leading: int = 0
    """Of those with context: it stands behind host."""
    errors: int = 0
    rss_mb: list[float] = field(default_factory=list)

    def growth_mb(self) -> float:
        """Between the second and the last third; in the first, memory comes into use."""
        third = len(self.rss_mb) // 3
        return max(self.rss_mb[-third:]) - max(self.rss_mb[third : 2 * third])


class Watcher:
    """A server that keeps nothing but two numbers."""

    def __init__(self, found: Soaked) -> None:
        self._found, self._lock = found, threading.Lock()
        self._names = tuple(b"\r\n" + name + b":" for name in NAMES)

    @contextmanager
    def running(self) -> Iterator[Recorder]:
        """Until the end of the block."""
        with recording_http1(self._answer) as self._server:
            yield self._server

    def _answer(self, head: bytes) -> bytes:
        self._server.heads.clear()
        behind_host = head.index(b"\r\n", head.index(b"\r\n") + 2)
        rest = head[behind_host:]
        with self._lock:
            self._found.with_context += any(name in rest for name in self._names)
            self._found.leading += rest.startswith(self._names)
        return OK


def soak(filtering: Filtering, seconds: float, seed: str) -> Soaked:
    """Random requests, the same for the same seed, without a pause."""
    found = Soaked()
    requests = _requests(seed)
    with Watcher(found).running() as server:
        moved = filtering.cluster("moved", server, upstream_protocol("h1"))
        with filtering.envoy([listener("moved", {"cluster": "moved"})], [moved]) as proxy:
            with load(proxy.ports["moved"], requests, CLIENTS) as made:
                end_s = time.monotonic() + seconds
                while time.monotonic() < end_s:
                    time.sleep(SAMPLE_S)
                    found.rss_mb.append(_rss_mb(proxy.process.pid))
            found.errors = filtering.errors(proxy)
    found.requests, found.failures = made.answers, made.failures
    return found


def _requests(seed: str) -> Sequence[bytes]:
    """Without those that have a header without a value, which not each variant can pass."""
    made = (random_request(f"{seed}-{at}").data for at in range(SETS))
    return [data for data in made if not any(line.rstrip().endswith(b":") for line in data.split(b"\r\n"))]


def _rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000
