# SPDX-License-Identifier: Apache-2.0
"""GET /metrics over HTTP/1.1, for Prometheus, and /readyz, for Kubernetes: nothing else is answered.

Threads talk to the clients; what they tell comes from the agent's own thread, which gives it in `poll`:
nobody reads what it is about to change.
"""

import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from agent.metrics.snapshot import CONTENT_TYPE, MetricsSnapshot, text

MAX_CONNECTIONS: Final = 4
"""More are closed at once: who scrapes needs one."""
REQUEST_TIMEOUT_S: Final = 2.0
"""For the whole request to arrive, and for the whole answer to be taken."""
SNAPSHOT_TIMEOUT_S: Final = 5.0
MAX_REQUEST_BYTES: Final = 8192
_log = logging.getLogger(__name__)


class MetricsError(Exception):
    """Nobody can listen there; the message says why and what to do."""


class MetricsServer:
    """Listens at `host` (an IP address) and `port` (0: any that is free) of this network namespace.

    Raises MetricsError.
    """

    def __init__(self, host: str, port: int, snapshot: Callable[[], MetricsSnapshot]) -> None:
        self._snapshot = snapshot
        self._asked = threading.Event()
        self._answered = threading.Condition()
        self._answers = 0
        self._answer: MetricsSnapshot | None = None
        self._closed = threading.Event()
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._socket = _listen(host, port)
        self.host, self.port = self._socket.getsockname()[:2]
        self._thread = threading.Thread(target=self._accept, name="metrics", daemon=True)
        self._thread.start()

    def poll(self) -> None:
        """Give those who asked what they asked for; the agent's thread calls it often."""
        if not self._asked.is_set():
            return
        self._asked.clear()
        answer = self._snapshot()
        with self._answered:
            self._answers += 1
            self._answer = answer
            self._answered.notify_all()

    def close(self) -> None:
        """Stop listening; clients that are being answered get no answer any more."""
        if self._closed.is_set():
            return
        self._closed.set()
        with self._answered:
            self._answered.notify_all()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError as error:
                if error.errno == errno.EINVAL:  # shut down
                    return
                _log.warning("metrics: cannot accept", extra={"reason": str(error)})
                self._closed.wait(1.0)  # no descriptors left: the next try would fail at once
                continue
            if self._places.acquire(blocking=False):
                threading.Thread(
                    target=self._serve, args=(client,), name="metrics-client", daemon=True
                ).start()
            else:
                client.close()

    def _serve(self, client: socket.socket) -> None:
        with ExitStack() as stack:
            stack.callback(self._places.release)
            stack.enter_context(client)
            try:
                _send(client, self._response(_request_line(client)))
            except OSError as error:
                _log.debug("metrics: client gone", extra={"reason": str(error)})

    def _response(self, request_line: bytes) -> bytes:
        method, _, rest = request_line.partition(b" ")
        path, _, version = rest.partition(b" ")
        if not version.startswith(b"HTTP/1."):
            return _plain("400 Bad Request", "this is no HTTP/1.x request")
        path = path.partition(b"?")[0]
        if path not in (b"/metrics", b"/readyz"):
            return _plain("404 Not Found", "there are /metrics and /readyz only")
        if method != b"GET":
            return _plain("405 Method Not Allowed", "there is GET only", "Allow: GET\r\n")
        snapshot = self._next_snapshot()
        if snapshot is None:
            return _plain(
                "503 Service Unavailable", f"the agent is busy for {SNAPSHOT_TIMEOUT_S:g} s or ends"
            )
        if path == b"/readyz":  # asked every few seconds: the text of 500 series takes 10 MB for a moment
            return _plain("200 OK", "the agent runs")
        return _http("200 OK", CONTENT_TYPE, text(snapshot))

    def _next_snapshot(self) -> MetricsSnapshot | None:
        with self._answered:
            before = self._answers
            self._asked.set()
            self._answered.wait_for(
                lambda: self._closed.is_set() or self._answers != before, timeout=SNAPSHOT_TIMEOUT_S
            )
            return self._answer if self._answers != before else None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(MAX_CONNECTIONS)
    except OSError as error:
        listener.close()
        name = errno.errorcode.get(error.errno or 0, "error")
        taken = error.errno == errno.EADDRINUSE
        advice = "another process listens there" if taken else os.strerror(error.errno or 0)
        raise MetricsError(
            f"metrics {host} port {port}: {name}: {advice}: name another address with --metrics-listen"
        ) from None
    return listener


def _request_line(client: socket.socket) -> bytes:
    """The first line of a whole request head. Raises OSError if it does not come in time."""
    deadline_s = time.monotonic() + REQUEST_TIMEOUT_S
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) > MAX_REQUEST_BYTES:
            raise ConnectionError(f"a request has at most {MAX_REQUEST_BYTES} bytes")
        client.settimeout(max(deadline_s - time.monotonic(), 0.001))
        received = client.recv(MAX_REQUEST_BYTES)
        if not received:
            raise ConnectionError("no whole request")
        head += received
    return head.partition(b"\r\n")[0]


def _send(client: socket.socket, response: bytes) -> None:
    """Raises OSError if it is not taken in time."""
    client.settimeout(REQUEST_TIMEOUT_S)  # sendall() takes it for the whole
    client.sendall(response)
    client.shutdown(socket.SHUT_WR)


def _plain(status: str, said: str, headers: str = "") -> bytes:
    return _http(status, "text/plain; charset=utf-8", said.encode() + b"\n", headers)


def _http(status: str, content_type: str, body: bytes, headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"{headers}Connection: close\r\n\r\n"
    )
    return head.encode() + body
