# SPDX-License-Identifier: Apache-2.0
"""One service of the lab's Bookinfo, HTTP/1.1, standard library only.

Runs as a script, `python -I -S bookinfo_app.py JSON`, JSON being a Role; writes "ready" once it listens.
Answers each request by calling what its role says, one after the other over connections that stay open,
and hands on the trace context of the request as Bookinfo does; 502 if a call fails. On a port of its own it
takes the spans of the pod's sidecar (OTLP over HTTP) and tells by GET how many there were.
"""

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HANDED_ON = (
    b"x-request-id",
    b"traceparent",
    b"tracestate",
    b"x-b3-traceid",
    b"x-b3-spanid",
    b"x-b3-parentspanid",
    b"x-b3-sampled",
    b"x-b3-flags",
    b"b3",
    b"user-agent",
    b"end-user",
    b"cookie",
)
"""Headers that Bookinfo copies from a request into the calls that it makes for it."""
CALL_TIMEOUT_S = 15.0
_LINE_END, _HEAD_END = b"\r\n", b"\r\n\r\n"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Call:
    """Another service: its name as in the Host header, where it is, what is asked of it."""

    service: str
    address: str
    port: int
    path: str


@dataclass(frozen=True)
class Role:
    """What this process is."""

    name: str
    port: int
    spans_port: int
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Message:
    """A request or an answer: its first line, its headers in lower case, its body."""

    start: bytes
    headers: Headers
    body: bytes


class Stream:
    """Messages from one connection, which must be those of a well-behaved HTTP/1.1 peer."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = b""

    def messages(self) -> Iterator[Message]:
        """Until the other side closes. Raises OSError, and ValueError for what is no HTTP/1.1."""
        while self._data or self._receive():
            start, *lines = self._line(_HEAD_END).split(b"\r\n")
            parted = (line.partition(b":") for line in lines)
            headers = [(name.lower(), value.strip()) for name, _, value in parted]
            named = dict(headers)
            if named.get(b"transfer-encoding") == b"chunked":
                body = b"".join(self._chunks())
            else:
                body = self._take(int(named.get(b"content-length", b"0")))
            yield Message(start, headers, body)

    def _chunks(self) -> Iterator[bytes]:
        """A body in chunks, without extensions and trailers, which nobody here sends."""
        while length := int(self._line(_LINE_END), 16):
            yield self._take(length)
            self._take(len(_LINE_END))
        self._take(len(_LINE_END))

    def _line(self, end: bytes) -> bytes:
        """What comes before the mark `end`, which is consumed as well."""
        while (size := self._data.find(end)) < 0:
            self._require()
        return self._take(size + len(end))[:size]

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            self._require()
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def _require(self) -> None:
        if not self._receive():
            raise ConnectionResetError("closed within a message")

    def _receive(self) -> bool:
        data = self._sock.recv(1 << 16)
        self._data += data
        return bool(data)


class Callee:
    """A service that is called over one connection, opened anew when the other side has closed it."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._sock: socket.socket | None = None
        self._answers: Iterator[Message] = iter(())

    def ask(self, request: Message) -> Message:
        """Its answer to a GET on behalf of `request`. Raises OSError, ValueError."""
        kept = b"".join(b"%s: %s\r\n" % each for each in request.headers if each[0] in HANDED_ON)
        head = f"GET {self._call.path} HTTP/1.1\r\nhost: {self._call.service}:{self._call.port}\r\n"
        data = head.encode() + b"accept-encoding: gzip, deflate\r\naccept: */*\r\n" + kept + b"\r\n"
        if self._sock is not None:
            try:
                return self._exchange(self._sock, data)
            except ConnectionError:
                self._sock.close()  # the other side closed it while it was idle
        self._sock = socket.create_connection((self._call.address, self._call.port), CALL_TIMEOUT_S)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answers = Stream(self._sock).messages()
        return self._exchange(self._sock, data)

    def close(self) -> None:
        """Let go of the connection."""
        if self._sock is not None:
            self._sock.close()

    def _exchange(self, sock: socket.socket, data: bytes) -> Message:
        sock.sendall(data)
        for answer in self._answers:
            return answer
        raise ConnectionResetError("closed without an answer")


class Service:
    """Answers requests; one object for each connection."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._callees = {call.service: Callee(call) for call in role.calls}

    def answer(self, request: Message) -> bytes:
        """The whole answer to one request."""
        said: dict[str, object] = {"service": self._role.name}
        for name, callee in self._callees.items():
            try:
                answer = callee.ask(request)
            except (OSError, ValueError) as error:
                return respond(502, {"service": self._role.name, "error": f"{name}: {error}"})
            if answer.start.split(b" ")[1:2] != [b"200"]:
                reason = f"{name}: {answer.start.decode('latin-1')}: {answer.body[:200].decode('latin-1')}"
                return respond(502, {"service": self._role.name, "error": reason})
            said[name] = json.loads(answer.body)
        return respond(200, said)

    def close(self) -> None:
        """Let go of the connections to others."""
        for callee in self._callees.values():
            callee.close()


class Spans:
    """Counts the spans that come by OTLP or as Zipkin's JSON; shared by all connections."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def answer(self, request: Message) -> bytes:
        """The whole answer: to a POST an empty one of its kind, to anything else the number."""
        if not request.start.startswith(b"POST "):
            return respond(200, {"spans": self._count})
        is_zipkin = request.start.startswith(b"POST /api/v2/spans ")
        spans = len(json.loads(request.body)) if is_zipkin else spans_in(request.body)
        with self._lock:
            self._count += spans
        if is_zipkin:
            return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"

    def close(self) -> None:
        """Nothing is held for one connection."""


def spans_in(export: bytes) -> int:
    """Number of spans of an ExportTraceServiceRequest: resource_spans 1, scope_spans 2, spans 2.

    Source: opentelemetry-proto, trace_service.proto and trace.proto. Raises ValueError if it is no protobuf.
    """
    scopes = [scope for resource in fields(export, 1) for scope in fields(resource, 2)]
    return sum(1 for scope in scopes for _ in fields(scope, 2))


def fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """Contents of the length-delimited fields with this number. Raises ValueError if it is no protobuf."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
            continue
        if kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
            continue
        if kind != _BYTES:
            raise ValueError(f"protobuf: wire type {kind}")
        length, at = _varint(message, at)
        if key >> 3 == wanted:
            yield message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("protobuf: ends within a number")


def respond(status: int, said: dict[str, object]) -> bytes:
    """An answer with a JSON body."""
    reason = {200: "OK", 502: "Bad Gateway"}[status]
    body = json.dumps(said, separators=(",", ":")).encode()
    head = (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def serve(listener: socket.socket, service: Callable[[], Service | Spans]) -> None:
    """Accept connections for ever, each served by a thread and what `service` makes for it."""
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_serve_one, args=(sock, service()), daemon=True).start()


def _serve_one(sock: socket.socket, service: Service | Spans) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for request in Stream(sock).messages():
            sock.sendall(service.answer(request))
    except (OSError, ValueError):
        return  # the client went away, or does not speak HTTP: the client reports it
    finally:
        service.close()
        sock.close()


def listen(address: str, port: int) -> socket.socket:
    """A listener; `::` takes both families."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.create_server((address, port), family=family, dualstack_ipv6=address == "::", backlog=1024)


def read_role(text: str) -> Role:
    """The role that the command line gives."""
    given = json.loads(text)
    return Role(**given | {"calls": tuple(Call(**call) for call in given["calls"])})


def main() -> None:
    """Serve until the process is ended."""
    role = read_role(sys.argv[1])
    spans = Spans()
    service, sink = listen("::", role.port), listen("127.0.0.1", role.spans_port)
    threading.Thread(target=serve, args=(sink, lambda: spans), daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    serve(service, lambda: Service(role))


if __name__ == "__main__":
    main()
