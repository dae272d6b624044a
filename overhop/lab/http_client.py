# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 load client of the lab, one thread, standard library only.

Runs as a script, `python -I -S http_client.py`: reads a Load as JSON from standard input, writes an Outcome
as JSON to standard output. Request number i carries the trace id `{seed:016x}{i+1:016x}`: both ends know it.

With `rate_hz` the load is open: request i is due i / rate_hz after the start, whatever has become of those
before it, and its latency counts from then. A server or a client that stalls so shows in the latency of every
request that it delayed, not of one per connection; how late each was sent is its lag.
"""

import base64
import json
import select
import socket
import struct
import sys
import time
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field

CONTEXTS = ("w3c", "b3-multi", "b3-single", "none")
MIN_PADDING_BYTES = 16
MAX_RATE_HZ = 1e6
_HEAD_END = b"\r\n\r\n"
_RST_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Load:
    """What to send. Raises ValueError, naming the field, if it cannot be sent."""

    address: str
    port: int
    seed: int
    """Upper 64 bits of every trace id, not 0."""
    path: str = "/"
    requests: int = 1
    connections: int = 1
    context: str = "w3c"
    sampled: bool = True
    padding_bytes: int = 0
    """Size of a header before the context, which so begins at a higher offset; 0 or at least 16."""
    body_bytes: int = 0
    """More than 0: POST with a body of that size."""
    split_body: bool = False
    """Send header and body in two writes."""
    pipeline: int = 1
    """Requests per write; the next write follows when all of them are answered."""
    rate_hz: float | None = None
    """Requests per second over all connections, begun at even distances; None: as fast as answers come."""
    source_port: int | None = None
    """Local port; needs connections = 1. The connection ends by RST, so that the port is free at once."""
    requests_per_connection: int | None = None
    """Open a new connection after that many."""
    timeout_s: float = 60.0
    """Whatever has no answer after this time from the start has failed."""

    def __post_init__(self) -> None:
        if self.context not in CONTEXTS:
            raise ValueError(f"context: {self.context!r} is unknown, known: {', '.join(CONTEXTS)}")
        if not 0 < self.seed < 1 << 64:
            raise ValueError(f"seed: {self.seed} is not within 1 to 2^64 - 1")
        if self.padding_bytes and self.padding_bytes < MIN_PADDING_BYTES:
            raise ValueError(
                f"padding_bytes: {self.padding_bytes} is neither 0 nor at least {MIN_PADDING_BYTES}"
            )
        if min(self.requests, self.connections, self.pipeline) < 1:
            raise ValueError("requests, connections and pipeline must be at least 1")
        if self.source_port is not None and self.connections != 1:
            raise ValueError("source_port: only one connection can have it: connections must be 1")
        if self.split_body and not self.body_bytes:
            raise ValueError("split_body: needs body_bytes")
        if self.rate_hz is not None and not 0 < self.rate_hz <= MAX_RATE_HZ:
            raise ValueError(f"rate_hz: {self.rate_hz} is not above 0 and at most {MAX_RATE_HZ:g}")


@dataclass(slots=True)
class Outcome:
    """What came back; arrays by request number."""

    status: array  # type: ignore[type-arg]  # array is generic for type checkers only
    latency_ns: array  # type: ignore[type-arg]
    """From when the request was due (without a rate: was written) to its answer."""
    lag_ns: array  # type: ignore[type-arg]
    """From when it was due to when it was written; empty without a rate."""
    errors: Counter[str] = field(default_factory=Counter)
    bodies: Counter[str] = field(default_factory=Counter)
    source_ports: list[int] = field(default_factory=list)
    elapsed_s: float = 0.0

    def to_json(self) -> str:
        """Itself, the arrays as base64 of their native bytes."""
        return json.dumps(
            {
                "status": base64.b64encode(self.status.tobytes()).decode(),
                "latency_ns": base64.b64encode(self.latency_ns.tobytes()).decode(),
                "lag_ns": base64.b64encode(self.lag_ns.tobytes()).decode(),
                "errors": self.errors,
                "bodies": self.bodies,
                "source_ports": self.source_ports,
                "elapsed_s": self.elapsed_s,
            }
        )


def render_head(load: Load) -> bytes:
    """The request header as a %-template: two numbers (both i + 1), or none without context."""
    host = f"[{load.address}]" if ":" in load.address else load.address
    method = "POST" if load.body_bytes else "GET"
    head = f"{method} {load.path} HTTP/1.1\r\nHost: {host}:{load.port}\r\nUser-Agent: overhop-lab\r\n"
    if load.padding_bytes:
        head += "x-padding: " + "p" * (load.padding_bytes - 13) + "\r\n"
    head = head.replace("%", "%%") + _context_template(load)
    if load.body_bytes:
        head += f"Content-Type: application/octet-stream\r\nContent-Length: {load.body_bytes}\r\n"
    return (head + "\r\n").encode()


def _context_template(load: Load) -> str:
    trace = f"{load.seed:016x}%016x"
    span = f"{load.seed & 0xFFFFFFFF | 1:08x}%08x"
    flag = int(load.sampled)
    if load.context == "w3c":
        return f"traceparent: 00-{trace}-{span}-{flag:02x}\r\n"
    if load.context == "b3-single":
        return f"b3: {trace}-{span}-{flag}\r\n"
    if load.context == "b3-multi":
        return f"x-b3-traceid: {trace}\r\nx-b3-spanid: {span}\r\nx-b3-sampled: {flag}\r\n"
    return ""


class _Connection:
    """One connection and its requests in flight."""

    __slots__ = ("buffer", "done", "in_flight", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.in_flight: deque[tuple[int, int]] = deque()
        """Number of each request, and when (monotonic ns) its latency begins."""
        self.buffer = b""
        self.unsent = b""
        self.done = 0


class _Run:
    """The event loop of one load."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._head = render_head(load)
        self._numbers = 0 if load.context == "none" else 2
        self._body = b"b" * load.body_bytes
        self._epoll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._idle: deque[_Connection] = deque()
        self._next = 0
        self._heads: dict[bytes, tuple[int, int]] = {}
        zeros = bytes(8 * load.requests)
        self.outcome = Outcome(
            array("H", bytes(2 * load.requests)),
            array("Q", zeros),
            array("Q", zeros if load.rate_hz else b""),
        )
        self._finished = 0
        self._start_s = time.monotonic()
        self._period_ns = 1e9 / load.rate_hz if load.rate_hz else 0.0
        self._first_due_ns = 0

    def run(self) -> Outcome:
        deadline_s = self._start_s + self._load.timeout_s
        for _ in range(min(self._load.connections, self._load.requests)):
            self._open()
        self._first_due_ns = time.monotonic_ns() - int(self._next * self._period_ns)
        while self._finished < self._load.requests:
            self._start_due()
            now_s = time.monotonic()
            if now_s >= deadline_s:
                break
            for fd, events in self._poll(min(deadline_s - now_s, self._pause_s())):
                self._handle(self._connections[fd], events)
        self._count_unfinished()
        self.outcome.elapsed_s = time.monotonic() - self._start_s
        for connection in list(self._connections.values()):
            self._close(connection)
        return self.outcome

    def _poll(self, pause_s: float) -> list[tuple[int, int]]:
        """Events, or none after the pause. epoll alone rounds up to milliseconds, and requests are late."""
        if self._load.rate_hz is None:
            return self._epoll.poll(pause_s)
        readable, _, _ = select.select((self._epoll,), (), (), pause_s)
        return self._epoll.poll(0) if readable else []

    def _count_unfinished(self) -> None:
        unsent = self._load.requests - self._next
        unanswered = self._load.requests - self._finished - unsent
        for what, count in (("no answer", unanswered), ("not sent", unsent)):
            if count:
                self.outcome.errors[f"{what} within {self._load.timeout_s} s"] += count

    def _due_ns(self, index: int) -> int:
        return self._first_due_ns + int(index * self._period_ns)

    def _due(self, now_ns: int) -> int:
        """How many requests may have been started by now."""
        if self._load.rate_hz is None:
            return self._load.requests
        return min(self._load.requests, int((now_ns - self._first_due_ns) / self._period_ns) + 1)

    def _pause_s(self) -> float:
        """Until the next request is due; long if no connection is free to send it."""
        if self._load.rate_hz is None or not self._idle or self._next >= self._load.requests:
            return 1.0
        return max(0, self._due_ns(self._next) - time.monotonic_ns()) / 1e9

    def _start_due(self) -> None:
        due = self._due(time.monotonic_ns())
        while self._idle and self._next < due:
            self._send_batch(self._idle.popleft(), min(self._load.pipeline, due - self._next))

    def _send_batch(self, connection: _Connection, count: int) -> None:
        first = self._next
        self._next += count
        self._note_sending(connection, range(first, first + count))
        try:
            if self._load.split_body:
                for index in range(first, first + count):
                    self._write(connection, self._render(index))
                    self._write(connection, self._body)
            else:
                self._write(
                    connection, b"".join(self._render(i) + self._body for i in range(first, first + count))
                )
        except OSError as error:
            self._fail(connection, str(error))

    def _note_sending(self, connection: _Connection, numbers: range) -> None:
        now_ns = time.monotonic_ns()
        for index in numbers:
            begin_ns = now_ns
            if self._period_ns:
                begin_ns = self._due_ns(index)
                self.outcome.lag_ns[index] = max(0, now_ns - begin_ns)
            connection.in_flight.append((index, begin_ns))

    def _render(self, index: int) -> bytes:
        return self._head % ((index + 1,) * self._numbers)

    def _write(self, connection: _Connection, data: bytes) -> None:
        if connection.unsent:
            connection.unsent += data
            return
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            connection.unsent = data[sent:]
            self._epoll.modify(connection.sock, select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, connection: _Connection) -> None:
        data, connection.unsent = connection.unsent, b""
        self._write(connection, data)
        if not connection.unsent:
            self._epoll.modify(connection.sock, select.EPOLLIN)

    def _handle(self, connection: _Connection, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                self._flush(connection)
            if events & ~select.EPOLLOUT:
                data = connection.sock.recv(1 << 18)
                if not data:
                    self._fail(connection, "connection closed by the server")
                    return
                self._take(connection, data)
        except OSError as error:
            self._fail(connection, str(error))

    def _take(self, connection: _Connection, data: bytes) -> None:
        """Match received bytes with the requests in flight."""
        data = connection.buffer + data
        position = 0
        while (end := data.find(_HEAD_END, position)) >= 0:
            status, length = self._parse(data[position:end])
            stop = end + 4 + length
            if len(data) < stop:
                break
            index, begin_ns = connection.in_flight.popleft()
            self.outcome.status[index] = status
            self.outcome.latency_ns[index] = time.monotonic_ns() - begin_ns
            self.outcome.bodies[data[end + 4 : min(stop, end + 68)].decode(errors="replace")] += 1
            self._finished += 1
            connection.done += 1
            position = stop
        connection.buffer = data[position:]
        if not connection.in_flight:
            self._rest(connection)

    def _parse(self, head: bytes) -> tuple[int, int]:
        known = self._heads.get(head)
        if known is None:
            lines = head.lower().split(b"\r\n")
            lengths = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
            known = self._heads[head] = (int(lines[0].split(b" ")[1]), lengths[0] if lengths else 0)
        return known

    def _rest(self, connection: _Connection) -> None:
        """Nothing in flight: the connection is free, or has done its share."""
        limit = self._load.requests_per_connection
        if limit is not None and connection.done >= limit:
            self._close(connection)
            self._open()
            return
        self._idle.append(connection)

    def _open(self) -> None:
        """Add a connection; a refused attempt costs the next request, so that a dead server ends it."""
        while self._next < self._load.requests:
            left_s = self._load.timeout_s - (time.monotonic() - self._start_s)
            if left_s <= 0:
                return
            try:
                sock = _connect(self._load, left_s)
            except OSError as error:
                self.outcome.errors[f"connect: {error}"] += 1
                self._next += 1
                self._finished += 1
                continue
            self.outcome.source_ports.append(sock.getsockname()[1])
            connection = _Connection(sock)
            self._connections[sock.fileno()] = connection
            self._epoll.register(sock, select.EPOLLIN)
            self._idle.append(connection)
            return

    def _fail(self, connection: _Connection, reason: str) -> None:
        """Count the requests in flight as failed (status 0) and go on with a new connection."""
        self.outcome.errors[reason] += max(1, len(connection.in_flight))
        self._finished += len(connection.in_flight)
        self._close(connection)
        self._open()

    def _close(self, connection: _Connection) -> None:
        self._epoll.unregister(connection.sock)
        del self._connections[connection.sock.fileno()]
        if connection in self._idle:
            self._idle.remove(connection)
        connection.sock.close()


def _connect(load: Load, timeout_s: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in load.address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if load.source_port is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
            sock.bind(("", load.source_port))
        sock.connect((load.address, load.port))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def run_load(load: Load) -> Outcome:
    """Send the requests, wait for all answers; failures are in the outcome."""
    return _Run(load).run()


def main() -> None:
    """Carry out the load on standard input."""
    load = Load(**json.load(sys.stdin))
    sys.stdout.write(run_load(load).to_json())


if __name__ == "__main__":
    main()
