# SPDX-License-Identifier: Apache-2.0
"""A client of HTTP/1.1 that keeps its connection, and counts nothing as an answer that is not whole."""

import socket

from tests.sidecar.recorder import HEAD_END, content_length

_TIMEOUT_S = 30.0


class NoAnswerError(Exception):
    """The connection ended before the answer did."""


class Client:
    """One connection to a port of loopback, made again when the other side wants it closed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sock: socket.socket | None = None

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def exchange(self, request: bytes) -> bytes:
        """The answer, its body counted by content-length. Raises NoAnswerError, OSError."""
        if self._sock is None:
            self._sock = socket.create_connection(("127.0.0.1", self._port), _TIMEOUT_S)
        try:
            self._sock.sendall(request)
            answer = _answer(self._sock)
        except BaseException:
            self._close()
            raise
        if b"\r\nconnection: close\r\n" in answer.partition(HEAD_END)[0].lower() + b"\r\n":
            self._close()
        return answer

    def _close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _answer(sock: socket.socket) -> bytes:
    data = b""
    while True:
        head, end, body = data.partition(HEAD_END)
        if end and len(body) >= content_length(head):
            return data
        more = sock.recv(1 << 16)
        if not more:
            raise NoAnswerError(f"closed after {len(data)} bytes of the answer")
        data += more
