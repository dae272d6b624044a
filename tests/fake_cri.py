# SPDX-License-Identifier: Apache-2.0
"""A container runtime on a Unix socket that speaks real HTTP/2 and gRPC, with as many pods as one likes."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, WindowUpdated
from h2.exceptions import H2Error

from collector.node.pods.protobuf import parse

Answer = Callable[[str, bytes], bytes | int]
"""Method and message in, message or gRPC status out."""


def field(number: int, value: bytes | str | int) -> bytes:
    """A field of a message; written by hand, not by what is tested."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def sandbox(at: int, *, state: int = 0, labels: dict[str, str] | None = None) -> bytes:
    """A row of ListPodSandbox: pod `pod-AT` of namespace `ns`."""
    meta = field(1, f"pod-{at}") + field(2, f"uid-{at}") + field(3, "ns")
    pairs = {"app": f"app-{at % 5}", "io.kubernetes.pod.name": f"pod-{at}"} | (labels or {})
    found = (
        field(1, f"sandbox-{at}")
        + field(2, meta)
        + field(3, state)
        + field(4, 1_700_000_000_000_000_000 + at)
    )
    return found + b"".join(field(5, field(1, key) + field(2, value)) for key, value in pairs.items())


def status(at: int, *, address: str | None = None, info: str | None = None, on_node: bool = False) -> bytes:
    """PodSandboxStatus, verbose, as containerd has it: the process's specification is most of it."""
    address = f"10.244.{at // 200}.{at % 200 + 2}" if address is None else address
    network = field(1, address) if address else b""
    linux = field(1, field(2, field(1, 2 if on_node else 0)))
    interfaces = {
        "cni0": {"IPConfigs": None, "Mac": "", "Sandbox": ""},
        "eth0": {"IPConfigs": [{"IP": address}], "Mac": "", "Sandbox": f"/var/run/netns/cni-{at}"},
        f"veth{at:08x}": {"IPConfigs": None, "Mac": "", "Sandbox": ""},
    }
    spec = {"process": {"env": [f"VARIABLE_{each}=value" for each in range(100)]}, "mounts": [{}] * 60}
    said = {"pid": 1000 + at, "cniResult": {"Interfaces": interfaces}, "runtimeSpec": spec}
    text = json.dumps(said) if info is None else info
    return field(1, field(1, f"sandbox-{at}") + field(5, network) + field(6, linux)) + field(
        2, field(1, "info") + field(2, text)
    )


class Runtime:
    """Pods by number; `answers` replaces the answer to a method."""

    def __init__(self, pods: int = 0) -> None:
        self.pods = dict.fromkeys(range(pods))
        self.answers: dict[str, bytes | int] = {}
        self.asked: list[str] = []

    def __call__(self, method: str, message: bytes) -> bytes | int:
        """One call."""
        name = method.rsplit("/", 1)[1]
        self.asked.append(name)
        if name in self.answers:
            return self.answers[name]
        if name == "ListPodSandbox":
            return b"".join(field(1, sandbox(at)) for at in self.pods)
        if name == "Version":
            return field(1, "0.1.0") + field(2, "fake") + field(3, "1.0") + field(4, "v1")
        return status(int(parse(message).text(1).removeprefix("sandbox-")))


@contextmanager
def serving(path: Path, answer: Answer) -> Iterator[None]:
    """Serves connections there, one after the other."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(4)
    listener.settimeout(0.05)
    stopping = threading.Event()

    def run() -> None:
        while not stopping.is_set():
            with suppress(TimeoutError, OSError, H2Error):  # who speaks no HTTP/2 is left
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(0.05)
                    _serve(connection, answer, stopping)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
        listener.close()
        path.unlink(missing_ok=True)


def _serve(connection: socket.socket, answer: Answer, stopping: threading.Event) -> None:
    http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    http.initiate_connection()
    connection.sendall(http.data_to_send())
    methods: dict[int, str] = {}
    bodies: dict[int, bytearray] = {}
    waiting: list[tuple[int, bytes]] = []
    while not stopping.is_set():
        try:
            data = connection.recv(1 << 16)
        except TimeoutError:
            continue
        if not data:
            return
        for event in http.receive_data(data):
            if isinstance(event, RequestReceived):
                methods[event.stream_id] = {str(name): str(value) for name, value in event.headers}[":path"]
                bodies[event.stream_id] = bytearray()
            elif isinstance(event, DataReceived):
                bodies[event.stream_id] += event.data
                http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                _reply(
                    http,
                    event.stream_id,
                    answer(methods[event.stream_id], bytes(bodies[event.stream_id][5:])),
                    waiting,
                )
            elif isinstance(event, WindowUpdated):
                pass
        _send(http, waiting)
        connection.settimeout(5)
        connection.sendall(http.data_to_send())
        connection.settimeout(0.05)


def _reply(http: H2Connection, stream: int, found: bytes | int, waiting: list[tuple[int, bytes]]) -> None:
    head = [(":status", "200"), ("content-type", "application/grpc")]
    if isinstance(found, int):
        http.send_headers(
            stream, [*head, ("grpc-status", str(found)), ("grpc-message", "no%20luck")], end_stream=True
        )
        return
    http.send_headers(stream, head)
    waiting.append((stream, struct.pack(">BI", 0, len(found)) + found))


def _send(http: H2Connection, waiting: list[tuple[int, bytes]]) -> None:
    """As much as the client's windows allow."""
    for at, (stream, left) in enumerate(waiting):
        sent = 0
        while sent < len(left):
            room = min(http.local_flow_control_window(stream), http.max_outbound_frame_size, len(left) - sent)
            if room <= 0:
                break
            http.send_data(stream, left[sent : sent + room])
            sent += room
        waiting[at] = (stream, left[sent:])
        if sent == len(left):
            http.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    waiting[:] = [each for each in waiting if each[1]]


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
