# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 keep-alive server of the lab, one thread, standard library only.

Runs as a script, `python -I -S http_server.py PORT BODY`: starts in 15 ms, writes "ready" once it listens.
Answers every request, of any method, with 200 and BODY; reads request bodies (Content-Length).
"""

import select
import socket
import sys

_HEAD_END = b"\r\n\r\n"
_LENGTH_NAME = b"\r\ncontent-length:"


class _Connection:
    """What is known of one client."""

    __slots__ = ("body_left", "head", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.head = b""
        self.body_left = 0
        self.unsent = b""

    def requests_in(self, data: bytes) -> int:
        """Take received bytes, return how many requests they complete."""
        count = 0
        while data:
            if self.body_left:
                skipped = min(self.body_left, len(data))
                self.body_left -= skipped
                data = data[skipped:]
                count += not self.body_left
                continue
            data = self.head + data
            end = data.find(_HEAD_END)
            if end < 0:
                self.head = data
                return count
            self.head = b""
            self.body_left = _content_length(data[: end + 2])
            count += not self.body_left
            data = data[end + 4 :]
        return count


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(_LENGTH_NAME)
    if at < 0:
        return 0
    start = at + len(_LENGTH_NAME)
    return int(lower[start : lower.index(b"\r\n", start)])


class Server:
    """Listens on all addresses of both families."""

    def __init__(self, port: int, body: str) -> None:
        text = body.encode()
        self._response = (
            b"HTTP/1.1 200 OK\r\nServer: overhop-lab\r\nContent-Type: text/plain\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(text), text)
        )
        self._listener = socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
        )
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._connections: dict[int, _Connection] = {}

    def serve_forever(self) -> None:
        """Answer until the process is ended."""
        listener = self._listener.fileno()
        while True:
            for fd, events in self._epoll.poll():
                if fd == listener:
                    self._accept()
                else:
                    self._serve(fd, events)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections[sock.fileno()] = _Connection(sock)
            self._epoll.register(sock, select.EPOLLIN)

    def _serve(self, fd: int, events: int) -> None:
        connection = self._connections[fd]
        try:
            if events & select.EPOLLOUT:
                self._send(connection, b"")
                return
            data = connection.sock.recv(1 << 18)
            if not data:
                self._close(fd)
                return
            count = connection.requests_in(data)
            if count:
                self._send(connection, self._response * count)
        except (OSError, ValueError):  # the client went away, or does not speak HTTP: the client reports it
            self._close(fd)

    def _send(self, connection: _Connection, data: bytes) -> None:
        data = connection.unsent + data
        try:
            sent = connection.sock.send(data)
        except BlockingIOError:
            sent = 0
        had_unsent = bool(connection.unsent)
        connection.unsent = data[sent:]
        if bool(connection.unsent) != had_unsent:
            events = select.EPOLLOUT if connection.unsent else select.EPOLLIN
            self._epoll.modify(connection.sock, events)

    def _close(self, fd: int) -> None:
        connection = self._connections.pop(fd)
        self._epoll.unregister(fd)
        connection.sock.close()


def main() -> None:
    """Serve on the port, with the body, given as arguments."""
    server = Server(int(sys.argv[1]), sys.argv[2])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
