# SPDX-License-Identifier: Apache-2.0
"""Questions to a Docker engine over its Unix socket: HTTP/1.1, JSON, a version in each path.

Only what Python has: an agent of a cluster has http.client already (agent/control/client.py).
"""

import http.client
import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

TIMEOUT_S: Final = 2.0
MAX_ANSWER_BYTES: Final = 16 << 20
_PREFERRED: Final = (1, 41)
"""Of Docker 20.10; everything that is asked for has been the same since 1.24."""
_PIECE_BYTES: Final = 1 << 16
_NOT_FOUND: Final = 404
_SHOWN: Final = 200


class EngineError(Exception):
    """A question has no answer; `status`: of HTTP, 0 where there was none."""

    def __init__(self, message: str, status: int = 0) -> None:
        self.status = status
        super().__init__(message)

    @property
    def is_gone(self) -> bool:
        """What was asked about is not there."""
        return self.status == _NOT_FOUND


class Engine:
    """The engine at `path`; the connection is made when it is used, and anew after a failure. One thread."""

    def __init__(self, path: str, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._connection: _UnixConnection | None = None
        self._prefix = ""

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
        self._connection = None
        self._prefix = ""  # the next one there may be another

    def version(self) -> str:
        """The engine's name and version. Raises EngineError: it does not answer, or is no Docker."""
        found = self._version()
        return f"Docker {found.get('Version', '')}".rstrip()

    def get(self, path: str) -> Any:  # noqa: ANN401  parsed JSON
        """What it answers to a path, without its version. Raises EngineError."""
        if not self._prefix:
            self._prefix = f"/v{_chosen(self._version())}"
        return self._asked(self._prefix + path)

    def _version(self) -> Mapping[str, Any]:
        found = self._asked("/version")
        if not isinstance(found, dict) or not isinstance(found.get("ApiVersion"), str):
            self.close()
            raise EngineError("what answers there is no Docker engine")
        return found

    def _asked(self, path: str) -> Any:  # noqa: ANN401  parsed JSON
        """A connection that the engine closed since the last question is made anew, once."""
        is_old = self._connection is not None
        until_s = time.monotonic() + self._timeout_s
        try:
            try:
                return self._once(path, until_s)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                if not is_old:
                    raise
                self._drop()
                return self._once(path, until_s)
        except EngineError as error:
            if not error.status:
                self.close()
            raise
        except TimeoutError:
            self.close()
            raise EngineError("no answer in time") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise EngineError(_reason(error)) from None

    def _once(self, path: str, until_s: float) -> Any:  # noqa: ANN401  parsed JSON
        if self._connection is None:
            self._connection = _UnixConnection(self._path, self._timeout_s)
        self._connection.wait_until(until_s)
        self._connection.request("GET", path, headers={"Accept": "application/json"})
        response = self._connection.getresponse()
        body = self._body(response, self._connection, until_s)
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            if response.status == http.client.OK:
                raise EngineError("its answer is no JSON") from None
            found = None
        if response.status != http.client.OK:
            said = found.get("message", "") if isinstance(found, dict) else ""
            raise EngineError(f"{response.status} {_short(said) or response.reason}", response.status)
        return found

    @staticmethod
    def _body(response: http.client.HTTPResponse, connection: "_UnixConnection", until_s: float) -> bytes:
        body = bytearray()
        while piece := response.read1(_PIECE_BYTES):
            body += piece
            if len(body) > MAX_ANSWER_BYTES:
                raise EngineError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
            connection.wait_until(until_s)
        response.close()  # read1 does not, at the end of a known length; the connection stays
        return bytes(body)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a path instead of a host."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def wait_until(self, until_s: float) -> None:
        """Not longer than that (CLOCK_MONOTONIC). Raises TimeoutError."""
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self.timeout = left_s
        if self.sock is not None:
            self.sock.settimeout(left_s)


def _chosen(version: Mapping[str, Any]) -> str:
    """The preferred version of the API, or the one nearest to it that the engine knows."""
    newest = _numbers(version.get("ApiVersion"))
    oldest = _numbers(version.get("MinAPIVersion"))
    if newest is None:
        raise EngineError("its version of the API is no number")
    return "{}.{}".format(*max(min(_PREFERRED, newest), oldest or newest))


def _numbers(text: object) -> tuple[int, int] | None:
    major, _, minor = text.partition(".") if isinstance(text, str) else ("", "", "")
    if not (major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
        return None
    return int(major), int(minor)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return _short(str(error)) or type(error).__name__


def _short(said: object) -> str:
    return " ".join(said.split())[:_SHOWN] if isinstance(said, str) else ""
