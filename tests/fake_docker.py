# SPDX-License-Identifier: Apache-2.0
"""A Docker engine on a Unix socket with a real one's recorded answers (tests/data/docker), or others."""

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

DATA: Final = Path(__file__).parent / "data" / "docker"
_PREFIX: Final = "/v1.41"


class FakeEngine:
    """`containers` is the list; `answers` replaces the answer to a path without its version."""

    def __init__(self) -> None:
        self.version: Any = json.loads((DATA / "version.json").read_text())
        self.containers: list[dict[str, Any]] = json.loads((DATA / "list.json").read_text())
        self.inspected: dict[str, dict[str, Any]] = json.loads((DATA / "inspect.json").read_text())
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.asked: list[str] = []
        self.connections = 0

    def named(self, name: str) -> dict[str, Any]:
        """A container's row of the list."""
        return next(each for each in self.containers if each["Names"] == [f"/{name}"])

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        self.asked.append(path)
        own = path.removeprefix(_PREFIX)
        if own in self.answers:
            return self.answers[own]
        if own == "/version":
            return 200, json.dumps(self.version).encode()
        if not path.startswith(_PREFIX):
            return 400, b'{"message":"client version 1.99 is too new. Maximum supported API version is 1.41"}'
        if own == "/containers/json":
            return 200, json.dumps(self.containers).encode()
        found = self.inspected.get(own.split("/")[2])
        if found is None:
            return 404, b'{"message":"No such container"}'
        return 200, json.dumps(found).encode()


@contextmanager
def serving(path: Path, engine: FakeEngine) -> Iterator[None]:
    """It answers there, any number of connections."""

    open_: list[socket.socket] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            engine.connections += 1
            open_.append(self.request)
            super().setup()

        def do_GET(self) -> None:
            status, body = engine.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = status == 500

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for each in open_:
            with suppress(OSError):  # it is closed already
                each.shutdown(socket.SHUT_RDWR)
        path.unlink(missing_ok=True)
