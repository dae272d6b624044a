# SPDX-License-Identifier: Apache-2.0
"""An HTTP server that answers as a test says, and remembers what it was asked."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, Mapping[str, str], bytes]


@dataclass(slots=True)
class Fake:
    """`url`: of loopback."""

    url: str
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path."""
    tokens: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    @property
    def place(self) -> str:
        """HOST:PORT."""
        return self.url.removeprefix("http://")


@contextmanager
def fake_server(answer: Callable[[str, str], Answer]) -> Iterator[Fake]:
    """`answer` gets method and path; a header Date that it gives replaces the real one."""
    fake = Fake("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Nothing."""

        def _serve(self) -> None:
            fake.bodies.append(self.rfile.read(int(self.headers.get("content-length", "0"))))
            fake.asked.append((self.command, self.path))
            fake.tokens.append(self.headers.get("authorization", ""))
            status, headers, data = answer(self.command, self.path)
            self.send_response_only(status)
            for name, value in ({"Date": self.date_time_string()} | dict(headers)).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = _serve  # noqa: N815  http.server wants these names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        fake.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
