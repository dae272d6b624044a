# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that lets so many writes through, then nothing, until it is opened."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_WRITE = b"/write?"


class Gate:
    """Before the server at `url`; `port`: its own, on loopback."""

    def __init__(self, url: str, writes: int) -> None:
        self.shut = threading.Event()
        """More writes came than were to go through."""
        self._left = writes
        self._opened = threading.Event()
        self._server = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def open(self) -> None:
        """Everything goes through from now on."""
        self._opened.set()

    def close(self) -> None:
        """End."""
        self._opened.set()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((self._server.hostname, self._server.port))
                self._sockets += [client, server]
                for ends in ((client, server, True), (server, client, False)):
                    self._threads.append(threading.Thread(target=self._pass, args=ends))
                    self._threads[-1].start()

    def _pass(self, source: socket.socket, drain: socket.socket, is_asking: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if is_asking and _WRITE in data and not self._opened.is_set():
                    self._left -= 1
                    if self._left < 0:
                        self.shut.set()
                        self._opened.wait()
                drain.sendall(data)
            drain.shutdown(socket.SHUT_WR)


@contextmanager
def gate(url: str, writes: int) -> Iterator[Gate]:
    """One that ends."""
    found = Gate(url, writes)
    try:
        yield found
    finally:
        found.close()
