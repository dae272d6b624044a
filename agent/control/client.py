# SPDX-License-Identifier: Apache-2.0
"""HTTP to the controller, one connection, for one thread. Only what is in Python: the agent stays small."""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.control.controller_clock import ControllerClock

MAX_ANSWER_BYTES: Final = 8 << 20
TIMEOUT_S: Final = 5.0
_MAX_TOKEN_BYTES: Final = 16 << 10
_SHOWN: Final = 300
_NOT_THIS_ONE: Final = 503


class ControllerError(Exception):
    """The controller refused or cannot be asked. `status`: of HTTP, 0 where there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"controller: {message}")


@dataclass(frozen=True, slots=True)
class ControllerAddress:
    """Where the controller is, and how to know each other. The token is read again for every request."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    """Who signs its certificate (PEM); None: whom the system trusts."""
    name: str | None = None
    """What its certificate calls it, where that is not the host of the URL."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of status 200 to 399."""

    status: int
    etag: str
    body: bytes


class ControllerClient:
    """Keeps its connection for the next request; a connection that was closed meanwhile is made anew once."""

    def __init__(self, address: ControllerAddress) -> None:
        self.clock = ControllerClock()
        """By the answers that came."""
        self._address = address
        self._connection: http.client.HTTPConnection | None = None
        self._is_used = False
        self._is_ended = False

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Reply:
        """Raises ControllerError, and nothing else."""
        sent = {"Accept": "application/json", "Connection": "keep-alive"} | dict(headers or {})
        token = self._token()
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        was_used = self._is_used
        try:
            return self._once(method, path, body, sent, timeout_s)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            if not was_used:
                raise ControllerError(0, _short(error)) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ControllerError(0, _short(error)) from None
        try:
            return self._once(method, path, body, sent, timeout_s)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ControllerError(0, _short(error)) from None

    def end(self) -> None:
        """For another thread: what is asked fails now, and from now on. Then close() is to be called."""
        self._is_ended = True
        connection = self._connection
        if connection is not None:
            with suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection, self._is_used = self._connection, None, False
        if connection is not None:
            connection.close()

    def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout_s: float
    ) -> Reply:
        is_done = False
        try:
            if self._is_ended:
                raise ControllerError(0, "it is not asked any more")
            connection = self._connected(timeout_s)
            asked_ns = time.monotonic_ns()
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            data = response.read(MAX_ANSWER_BYTES + 1)
            heard_ns = time.monotonic_ns()
            if len(data) > MAX_ANSWER_BYTES:
                raise ControllerError(0, f"an answer of more than {MAX_ANSWER_BYTES} bytes")
            # Behind a service another controller may lead; this connection leads to the same one for ever.
            is_done = not response.will_close and response.status != _NOT_THIS_ONE
            self._is_used = is_done
        finally:
            if not is_done:
                self.close()
        if response.status >= 400:
            raise ControllerError(response.status, f"{response.status}: {_detail(data)}")
        self.clock.hear(response.headers.get("Date", ""), asked_ns, heard_ns)
        return Reply(response.status, response.headers.get("ETag", ""), data)

    def _connected(self, timeout_s: float) -> http.client.HTTPConnection:
        if self._connection is None:
            place = urlsplit(self._address.url)
            host, port = place.hostname or "", place.port
            if place.scheme == "https":
                context = ssl.create_default_context(cafile=self._address.ca_file)
                self._connection = _Https(host, port, context, self._address.name or host)
            else:
                self._connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
            self._connection.connect()
            _keep_alive(self._connection.sock)
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout_s)
        return self._connection

    def _token(self) -> str:
        """Kubernetes replaces it every few minutes. Raises ControllerError."""
        file = self._address.token_file
        if file is None:
            return ""
        try:
            with file.open("rb") as opened:
                text = opened.read(_MAX_TOKEN_BYTES).decode("ascii").strip()
        except OSError as error:
            raise ControllerError(0, f"token file {file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ControllerError(0, f"token file {file}: it is no token") from None
        if not text or not text.isprintable() or " " in text:
            raise ControllerError(0, f"token file {file}: it is no token")
        return text


def _keep_alive(sock: socket.socket) -> None:
    """A controller that is gone without a word is noticed within 14 s, also while an answer is waited for."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


class _Https(http.client.HTTPSConnection):
    """Checks the certificate for a name of its own."""

    def __init__(self, host: str, port: int | None, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=TIMEOUT_S, context=context)
        self._own_context, self._name = context, name

    def connect(self) -> None:
        """As the base class, but for the name."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._own_context.wrap_socket(self.sock, server_hostname=self._name)


def _detail(data: bytes) -> str:
    with suppress(ValueError, RecursionError):
        found = json.loads(data)
        if isinstance(found, dict) and isinstance(found.get("detail"), str):
            return " ".join(found["detail"][:_SHOWN].split())
    return "without a reason"


def _short(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:_SHOWN] or type(error).__name__
