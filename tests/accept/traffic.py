# SPDX-License-Identifier: Apache-2.0
"""Requests that go on while something else happens: a steady load, and probes from many pods."""

import selectors
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from agent.reading.ring import Records
from overhop.lab import Host, Pod
from overhop.lab.http import new_seed
from tests.accept.verdict import Verdict

_CHUNK_S = 1.0
_PROBE_PERIOD_S = 0.02
_PROBE_TIMEOUT_S = 30.0
_CONNECT_ATTEMPT_S = 0.05


class _Background(ABC):
    """What a thread does again and again as long as the `with` lasts, where its failure is raised."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._close()
        if error is None and self._failure is not None:
            raise self._failure

    @abstractmethod
    def _turn(self) -> None:
        """A part of the work; asked again until it is over."""

    def _close(self) -> None:  # noqa: B027  not everybody has something to close
        """After the last turn."""

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._turn()
        except BaseException as error:  # noqa: BLE001  __exit__ raises it in the caller's thread
            self._failure = error


class SteadyLoad(_Background):
    """HTTP requests at a rate from `client` to `server`, until the `with` ends: loads of a second each."""

    def __init__(self, client: Host, server: Host, rate_hz: float, connections: int = 16) -> None:
        super().__init__()
        self._client, self._server = client, server
        self._rate_hz, self._connections = rate_hz, connections
        self.requests = 0
        self.answered = 0
        self.errors: Counter[str] = Counter()

    def check(self, verdict: Verdict) -> None:
        """After the end: every request was answered with 200."""
        verdict.numbers["requests"] = self.requests
        verdict.equal("failed requests", self.requests - self.answered, 0)
        verdict.equal("client errors", dict(self.errors), {})

    def _turn(self) -> None:
        result = self._client.http(
            self._server,
            requests=max(1, int(self._rate_hz * _CHUNK_S)),
            connections=self._connections,
            rate_hz=self._rate_hz,
        )
        self.requests += len(result.status)
        self.answered += result.ok
        self.errors.update(result.errors)


@dataclass(slots=True)
class _Probe:
    """One pod that asks the server again and again."""

    pod: str
    number: int
    created_ns: int
    connection: socket.socket
    due_s: float = 0.0
    sent_ns: list[int] = field(default_factory=list)
    answers: int = 0


@dataclass(frozen=True, slots=True)
class Traced:
    """How a pod's requests were seen."""

    pod: str
    first_s: float
    """From the beginning of its creation to the sending of the first request that was seen."""
    missed: int
    """Requests before that one."""
    gaps: int
    """Requests behind it that were not seen."""


class Probes(_Background):
    """Requests from many pods, every 20 ms each, `requests` of them, sent and answered by one thread.

    Each carries a trace id of `seed`, the pod's number and the request's.
    """

    def __init__(self, address: str, requests: int) -> None:
        super().__init__()
        self._target = (address, 80)
        self._requests = requests
        self._seed = new_seed()
        self._probes: list[_Probe] = []
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()

    def add(self, pod: Pod, created_ns: int) -> None:
        """Let a pod ask from now on; `created_ns` (CLOCK_MONOTONIC) is when its making began."""
        connection = _connected(pod, self._target)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            probe = _Probe(pod.name, len(self._probes), created_ns, connection)
            self._probes.append(probe)
            self._selector.register(connection, selectors.EVENT_READ, probe)

    def unanswered(self) -> int:
        """How many requests are still to be sent or answered."""
        with self._lock:
            return sum(self._requests - probe.answers for probe in self._probes)

    def traced(self, records: Records) -> list[Traced | None]:
        """Of each pod in the order of add(); None: never seen."""
        ids = np.frombuffer(records["trace_id"].tobytes(), ">u8").reshape(-1, 2)
        ours = ids[ids[:, 0] == self._seed][:, 1].astype(np.int64)
        return [
            _traced(probe, np.unique(ours[ours >> 32 == probe.number] & 0xFFFFFFFF)) for probe in self._probes
        ]

    def _close(self) -> None:
        self._selector.close()
        for probe in self._probes:
            probe.connection.close()

    def _turn(self) -> None:
        self._send_due(time.monotonic())
        with self._lock:
            ready = self._selector.select(0)
        for key, _ in ready:
            key.data.answers += key.fileobj.recv(1 << 16).count(b"HTTP/1.1 200")  # type: ignore[union-attr]
        self._over.wait(_PROBE_PERIOD_S / 4)

    def _send_due(self, now_s: float) -> None:
        with self._lock:
            probes = [probe for probe in self._probes if probe.due_s <= now_s]
        for probe in probes:
            sent = len(probe.sent_ns)
            if sent < self._requests and probe.answers == sent:
                probe.due_s = now_s + _PROBE_PERIOD_S
                probe.sent_ns.append(time.monotonic_ns())
                probe.connection.send(self._request(probe.number << 32 | sent))

    def _request(self, number: int) -> bytes:
        context = f"00-{self._seed:016x}{number:016x}-{number + 1:016x}-01"
        return f"GET / HTTP/1.1\r\nHost: {self._target[0]}\r\ntraceparent: {context}\r\n\r\n".encode()


def _connected(pod: Pod, target: tuple[str, int]) -> socket.socket:
    """A bridge port forwards with a delay, and TCP would send the lost SYN again only after a second."""
    deadline_s = time.monotonic() + _PROBE_TIMEOUT_S
    with pod.netns.entered():
        while True:
            try:
                return socket.create_connection(target, timeout=_CONNECT_ATTEMPT_S)
            except TimeoutError:
                if time.monotonic() > deadline_s:
                    raise


def _traced(probe: _Probe, seen: npt.NDArray[np.int64]) -> Traced | None:
    if not len(seen):
        return None
    return Traced(
        pod=probe.pod,
        first_s=(probe.sent_ns[int(seen[0])] - probe.created_ns) / 1e9,
        missed=int(seen[0]),
        gaps=len(probe.sent_ns) - int(seen[0]) - len(seen),
    )


@contextmanager
def datagrams(near: Host, far: Host, port: int) -> Iterator["Datagrams"]:
    """UDP sockets in two hosts, for packets that are counted."""
    with near.netns.entered():
        here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with far.netns.entered():
        there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with here, there:
        for end in (here, there):
            end.settimeout(5.0)
            end.bind(("", port))
        yield Datagrams(here, there, (str(near.address), port), (str(far.address), port))


@dataclass(frozen=True, slots=True)
class Datagrams:
    """Sends there and back, one after the other."""

    here: socket.socket
    there: socket.socket
    near: tuple[str, int]
    far: tuple[str, int]

    def exchange(self, count: int) -> int:
        """How many made both ways."""
        done = 0
        for number in range(count):
            payload = number.to_bytes(4, "big")
            self.here.sendto(payload, self.far)
            if self.there.recv(64) == payload:
                self.there.sendto(payload, self.near)
                done += self.here.recv(64) == payload
        return done
