# SPDX-License-Identifier: Apache-2.0
"""Requests in the lab's mesh as they are on the wire between sidecars."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from overhop.lab.hosts import Pod
from overhop.lab.mesh import PORT
from overhop.sidecar.contexts import DEFAULT_HEADERS
from overhop.sidecar.filters import Data
from tests.sidecar.recorder import HEAD_END

_EVERY_PROTOCOL = 3
_NAMES = tuple(f"{name}:".encode() for name in DEFAULT_HEADERS)
_ETHERNET = 14


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request: where its first header of context begins, and where it may begin at most."""

    data: bytes

    @property
    def offset(self) -> int | None:
        """None: it has no context."""
        at = 0
        for line in self.data.split(b"\r\n"):
            if line.lower().startswith(_NAMES):
                return at
            at += len(line) + 2
        return None

    @property
    def head_bytes(self) -> int:
        """Of the request line and the host line, which stands behind it."""
        line, host = self.data.split(b"\r\n")[:2]
        assert host.lower().startswith(b"host:"), host
        return len(line) + len(host) + 4


@dataclass
class Heard:
    """Requests at one place."""

    heads: list[Head] = field(default_factory=list)

    def relocated(self) -> int:
        """How many have their context directly behind host."""
        return sum(head.offset == head.head_bytes for head in self.heads)


@contextmanager
def hearing(pod: Pod, device: str) -> Iterator[Heard]:
    """Requests to the port of the services that come in at a device while the block runs."""
    heard = Heard()
    with pod.netns.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL))
    ours, theirs = socket.socketpair()
    with sock, ours, theirs:
        sock.bind((device, _EVERY_PROTOCOL))
        reader = threading.Thread(target=_read, args=(sock, theirs, heard))
        reader.start()
        try:
            yield heard
        finally:
            ours.send(b"x")
            reader.join()


@contextmanager
def all_hearing(pods: dict[str, Pod], places: list[tuple[str, str]]) -> Iterator[dict[str, Heard]]:
    """By `pod device`."""
    with ExitStack() as stack:
        yield {f"{pod} {device}": stack.enter_context(hearing(pods[pod], device)) for pod, device in places}


def _read(sock: socket.socket, end: socket.socket, heard: Heard) -> None:
    """Until the other side says so and nothing is left."""
    while True:
        readable, _, _ = select.select([sock, end], [], [])
        if sock not in readable:
            return
        frame, (_, _, kind, _, _) = sock.recvfrom(1 << 17)
        if kind == socket.PACKET_OUTGOING:
            continue  # on loopback every frame is seen twice
        payload = request_in(frame)
        if payload:
            heard.heads.append(Head(payload))


def request_in(frame: bytes) -> bytes:
    """The head of a request to a service's port, in an Ethernet frame of IPv4; empty if it is none."""
    packet = frame[_ETHERNET:]
    if len(packet) < 40 or packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
        return b""
    tcp = packet[(packet[0] & 15) * 4 :]
    if int.from_bytes(tcp[2:4], "big") != PORT:
        return b""
    payload = tcp[(tcp[12] >> 4) * 4 :]
    return payload.partition(HEAD_END)[0] + HEAD_END if payload.startswith(b"GET ") else b""


def traced(listener: Data, tracing: Data) -> Data:
    """The listener with a tracer."""
    chains: list[dict[str, list[dict[str, dict[str, object]]]]] = listener["filter_chains"]  # type: ignore[assignment]
    chains[0]["filters"][0]["typed_config"]["tracing"] = tracing
    return listener
