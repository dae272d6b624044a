# SPDX-License-Identifier: Apache-2.0
"""Servers on loopback that keep every request as it came: the bytes of its head, or its fields of HTTP/2."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HEAD_END = b"\r\n\r\n"
LARGEST_LIST_BYTES = 1 << 20
Fields = list[tuple[bytes, bytes]]


@dataclass
class Recorder:
    """What came, in its order."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    """Of HTTP/1.1: from the method to the empty line."""
    fields: list[Fields] = field(default_factory=list)
    """Of HTTP/2."""


def _head(sock: socket.socket, data: bytes) -> tuple[bytes, bytes]:
    """A head, and what came behind it; nothing if the other side has closed."""
    while HEAD_END not in data:
        more = sock.recv(1 << 16)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(HEAD_END)
    return head + HEAD_END, rest


def content_length(head: bytes) -> int:
    """Of a head; 0 if it says none."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _serve_http1(sock: socket.socket, recorder: Recorder, answer: Callable[[bytes], bytes]) -> None:
    data = b""
    with sock:
        while True:
            head, data = _head(sock, data)
            if not head:
                return
            body = content_length(head)
            while len(data) < body:
                data += sock.recv(1 << 16)
            data = data[body:]
            recorder.heads.append(head)
            reply = answer(head)
            if not reply:
                continue  # keeps the other side waiting
            sock.sendall(reply)
            if reply.startswith(b"HTTP/1.1 101"):
                while echoed := data or sock.recv(1 << 16):
                    sock.sendall(echoed)
                    data = b""
                return


def _serve_http2(sock: socket.socket, recorder: Recorder) -> None:
    """Answers 200, or what a gRPC client wants to hear."""
    # What Envoy sends is kept, whatever h2 thinks of it.
    made = h2.config.H2Configuration(
        client_side=False,
        header_encoding=None,
        validate_inbound_headers=False,
        normalize_inbound_headers=False,
    )
    connection = h2.connection.H2Connection(config=made)
    connection.decoder.max_header_list_size = LARGEST_LIST_BYTES
    connection.initiate_connection()
    grpc: set[int] = set()
    with sock:
        sock.sendall(connection.data_to_send())
        while data := sock.recv(1 << 16):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    came = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
                    recorder.fields.append(came)
                    if (b"content-type", b"application/grpc") in came:
                        grpc.add(event.stream_id or 0)
                elif isinstance(event, h2.events.DataReceived):
                    connection.acknowledge_received_data(
                        event.flow_controlled_length or 0, event.stream_id or 0
                    )
                elif isinstance(event, h2.events.StreamEnded):
                    _answer_http2(connection, event.stream_id or 0, is_grpc=event.stream_id in grpc)
            sock.sendall(connection.data_to_send())


def _answer_http2(connection: h2.connection.H2Connection, stream: int, *, is_grpc: bool) -> None:
    kind = "application/grpc" if is_grpc else "text/plain"
    connection.send_headers(stream, [(":status", "200"), ("content-type", kind)])
    if is_grpc:
        connection.send_data(stream, b"\0\0\0\0\2ok")
        connection.send_headers(stream, [("grpc-status", "0")], end_stream=True)
    else:
        connection.send_data(stream, b"ok", end_stream=True)


@contextmanager
def _listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def one(sock: socket.socket) -> None:
        try:
            serve(sock)
        except OSError:
            return  # Envoy closed the connection: at its end, or because nobody waits for the answer

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return  # closed below
            threading.Thread(target=one, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextmanager
def recording_http1(answer: Callable[[bytes], bytes] = lambda _: OK) -> Iterator[Recorder]:
    """A server of HTTP/1.1; `answer` gives for a head the bytes to send, none to say nothing."""
    recorder = Recorder()
    with _listening(lambda sock: _serve_http1(sock, recorder, answer)) as recorder.port:
        yield recorder


@contextmanager
def recording() -> Iterator[Recorder]:
    """A server of both: HTTP/2 begins with a preface (RFC 9113 section 3.4)."""
    recorder = Recorder()

    def serve(sock: socket.socket) -> None:
        if sock.recv(3, socket.MSG_PEEK | socket.MSG_WAITALL) == b"PRI":
            _serve_http2(sock, recorder)
        else:
            _serve_http1(sock, recorder, lambda _: OK)

    with _listening(serve) as recorder.port:
        yield recorder


@contextmanager
def recording_http2() -> Iterator[Recorder]:
    """A server of HTTP/2 without TLS."""
    recorder = Recorder()
    with _listening(lambda sock: _serve_http2(sock, recorder)) as recorder.port:
        yield recorder


def without_pseudo(fields: Fields) -> Fields:
    """What comes behind the pseudo headers, which must come first."""
    names = [name for name, _ in fields]
    count = sum(name.startswith(b":") for name in names)
    assert all(name.startswith(b":") for name in names[:count])
    return fields[count:]
