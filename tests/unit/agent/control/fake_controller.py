# SPDX-License-Identifier: Apache-2.0
"""A controller that says what a test tells it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from agent.control.client import ControllerAddress


@dataclass(slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    client_port: int
    """Another connection has another one."""


@dataclass(slots=True)
class Said:
    """One answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    closes: bool = False
    """The connection is closed behind it, without a word."""


@contextmanager
def fake_controller(answer: Callable[[Asked], Said]) -> Iterator[ControllerAddress]:
    """`answer` is called for each request, by the server's threads."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body, port = self.rfile.read(length), self.client_address[1]
            said = answer(Asked(self.command, self.path, dict(self.headers), body, port))
            self.send_response_only(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value)
            if said.status != 304:
                self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body)
            self.close_connection = said.closes

        do_GET = do_PUT = do_POST = _any  # noqa: N815  names of the base class

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield ControllerAddress(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
