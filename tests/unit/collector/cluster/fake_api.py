# SPDX-License-Identifier: Apache-2.0
"""An API server that says what a test tells it, also what a real one never would."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import Configuration

from collector.cluster.api import Api

Query = dict[str, list[str]]
Answer = tuple[int, list[bytes]]
"""Status, and the parts of the body as they are to be sent."""


@contextmanager
def fake_api(answer: Callable[[str, Query], Answer]) -> Iterator[Api]:
    """`answer` gets path and query of each request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            place = urlsplit(self.path)
            status, parts = answer(place.path, parse_qs(place.query))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (*parts, b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_port}"
    api = Api(configuration)
    try:
        yield api
    finally:
        api.close()
        server.shutdown()
        server.server_close()
        thread.join()


def listing(*names: str, version: str = "1", more: str = "") -> Answer:
    """A list of objects with these names."""
    items = [{"metadata": {"name": each}} for each in names]
    meta = {"resourceVersion": version} | ({"continue": more} if more else {})
    return 200, [json.dumps({"metadata": meta, "items": items}).encode()]


def event(what: str, name: str, version: str) -> bytes:
    """A line of a watch."""
    found: dict[str, Any] = {"type": what, "object": {"metadata": {"name": name, "resourceVersion": version}}}
    return json.dumps(found).encode() + b"\n"


def failure(code: int, message: str) -> bytes:
    """A line of a watch that failed."""
    status = {"kind": "Status", "code": code, "message": message}
    return json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
