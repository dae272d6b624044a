# SPDX-License-Identifier: Apache-2.0
"""Unary calls of gRPC over a Unix socket, many at a time (grpc.io, "gRPC over HTTP2").

HTTP/2 itself is the h2 package's. The usual library for gRPC costs an agent 20 MB and a compiler for messages
(docs/decisions/0014-cri.md).
"""

import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import H2Error
from h2.settings import SettingCodes

TIMEOUT_S: Final = 2.0
MAX_MESSAGE_BYTES: Final = 16 << 20
AT_A_TIME: Final = 50
_WINDOW: Final = 8 << 20
_HEAD: Final = struct.Struct(">BI")
_SHOWN: Final = 200


class GrpcError(Exception):
    """A call failed; `code`: of gRPC, -1 where there was no answer."""

    def __init__(self, message: str, code: int = -1) -> None:
        self.code = code
        super().__init__(message)


@dataclass(slots=True)
class _Call:
    data: bytearray = field(default_factory=bytearray)
    trailers: dict[str, str] = field(default_factory=dict)


class Channel:
    """A connection to the server at `path`; made when it is used, and anew after a failure. One thread."""

    def __init__(self, path: str, timeout_s: float = TIMEOUT_S) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._http: H2Connection | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
        self._socket = self._http = None

    def call(self, method: str, request: bytes) -> bytes:
        """The message that `/service/method` answers. Raises GrpcError."""
        [found] = self.calls(method, [request])
        if isinstance(found, GrpcError):
            raise found
        return found

    def calls(self, method: str, requests: Sequence[bytes]) -> list[bytes | GrpcError]:
        """One answer per request, in their order. Raises GrpcError where the connection fails."""
        until_s = time.monotonic() + self._timeout_s
        try:
            found: list[bytes | GrpcError] = []
            for start in range(0, len(requests), AT_A_TIME):
                found += self._some(method, requests[start : start + AT_A_TIME], until_s)
        except GrpcError:
            self.close()
            raise
        except (OSError, H2Error) as error:
            self.close()
            said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise GrpcError(said or type(error).__name__) from None
        return found

    def _some(self, method: str, requests: Iterable[bytes], until_s: float) -> list[bytes | GrpcError]:
        http, sock = self._connected(until_s)
        calls: dict[int, _Call] = {}
        for request in requests:
            stream = http.get_next_available_stream_id()
            http.send_headers(stream, [*_headers(method)])
            http.send_data(stream, _HEAD.pack(0, len(request)) + request, end_stream=True)
            calls[stream] = _Call()
        sock.sendall(http.data_to_send())
        open_ = set(calls)
        while open_:
            self._wait(sock, until_s)
            data = sock.recv(1 << 18)
            if not data:
                raise GrpcError("the connection was closed")
            for event in http.receive_data(data):
                self._take(event, http, calls, open_)
            sock.sendall(http.data_to_send())
        return [_answer(call) for call in calls.values()]

    def _take(self, event: Any, http: H2Connection, calls: Mapping[int, _Call], open_: set[int]) -> None:  # noqa: ANN401  any event
        call = calls.get(getattr(event, "stream_id", 0) or 0)
        if isinstance(event, ConnectionTerminated):
            raise GrpcError("the server ended the connection")
        if call is None:
            return
        if isinstance(event, DataReceived):
            call.data += event.data
            if len(call.data) > MAX_MESSAGE_BYTES:
                raise GrpcError(f"an answer of more than {MAX_MESSAGE_BYTES} bytes")
            http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, ResponseReceived | TrailersReceived):
            call.trailers |= {_text(name): _text(value) for name, value in event.headers}
        elif isinstance(event, StreamEnded | StreamReset):
            open_.discard(event.stream_id)

    def _connected(self, until_s: float) -> tuple[H2Connection, socket.socket]:
        if self._http is not None and self._socket is not None:
            return self._http, self._socket
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(max(0.01, until_s - time.monotonic()))
        self._socket.connect(self.path)
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._http.initiate_connection()
        self._http.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW, SettingCodes.ENABLE_PUSH: 0})
        self._http.increment_flow_control_window(_WINDOW)
        self._socket.sendall(self._http.data_to_send())
        return self._http, self._socket

    @staticmethod
    def _wait(sock: socket.socket, until_s: float) -> None:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise GrpcError("no answer in time")
        sock.settimeout(left_s)


def _headers(method: str) -> Iterable[tuple[str, str]]:
    yield ":method", "POST"
    yield ":scheme", "http"
    yield ":path", method
    yield ":authority", "localhost"
    yield "content-type", "application/grpc"
    yield "te", "trailers"


def _answer(call: _Call) -> bytes | GrpcError:
    status = call.trailers.get("grpc-status", "")
    if status != "0":
        said = unquote(call.trailers.get("grpc-message", "")) or "no reason given"
        code = int(status) if status.isascii() and status.isdigit() else -1
        return GrpcError(f"status {status or 'missing'}: {' '.join(said.split())[:_SHOWN]}", code)
    if len(call.data) < _HEAD.size:
        return GrpcError("an answer without a message")
    is_packed, length = _HEAD.unpack_from(call.data)
    if is_packed or length != len(call.data) - _HEAD.size:
        return GrpcError("an answer that is no single message")
    return bytes(call.data[_HEAD.size :])


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
