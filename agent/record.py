# SPDX-License-Identifier: Apache-2.0
"""The record socket: root asks a running agent to write every raw record into a file.

One command a line (words as in a shell), one JSON answer a line: `START FILE [MAX_BYTES]`, `STOP`, `STATUS`.
`STOP` answers when the file is complete. An answer with `error` says what went wrong.
"""

import contextlib
import errno
import json
import os
import shlex
import socket
import struct
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from agent import unix_socket
from agent.recording import (
    DEFAULT_MAX_BYTES,
    Recorder,
    RecordError,
    RecordingHeader,
    RecordStatus,
    read_recording,
)

__all__ = [
    "RecordError",
    "RecordServer",
    "RecordStatus",
    "Recorder",
    "RecordingHeader",
    "default_socket_path",
    "read_recording",
    "record_client",
]

MAX_LINE_BYTES = 8192
MAX_CONNECTIONS = 8
_UCRED = struct.Struct("3i")


def default_socket_path(run_dir: str | os.PathLike[str] = unix_socket.RUN_DIRECTORY) -> Path:
    """Where the agent of this network namespace listens."""
    return unix_socket.default_path("record", run_dir)


class RecordServer:
    """Listens at `path` (mode 0600); the agent's loop calls `poll` after each read of the ring; never blocks.

    Raises RecordError if another agent listens there or the socket cannot be made.
    """

    def __init__(
        self, path: str | os.PathLike[str], recorder: Recorder, allowed_uids: Collection[int] = (0,)
    ) -> None:
        self.path = os.fspath(path)
        self._recorder = recorder
        self._allowed_uids = frozenset(allowed_uids)
        self._connections: list[_Connection] = []
        self._socket = _listen(self.path)

    def fileno(self) -> int:
        """For select(2): readable when somebody connects."""
        return self._socket.fileno()

    def poll(self) -> None:
        """Accepts, reads, answers, as far as that is possible now."""
        self._accept()
        for connection in self._connections:
            connection.poll()
        self._connections = [connection for connection in self._connections if connection.open]

    def close(self) -> None:
        """Stops listening and removes the socket; the recorder stays as it is."""
        for connection in self._connections:
            connection.close()
        self._socket.close()
        Path(self.path).unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except BlockingIOError:
                return
            connection = _Connection(peer, self._recorder)
            uid = _peer_uid(peer)
            if uid not in self._allowed_uids:
                connection.refuse(f"user id {uid} may not record: ask as root")
            elif len(self._connections) >= MAX_CONNECTIONS:
                connection.refuse(f"{MAX_CONNECTIONS} clients are connected already: try later")
            else:
                self._connections.append(connection)


class _Connection:
    """One client: its unfinished line, and whether it waits for the end of a recording."""

    def __init__(self, peer: socket.socket, recorder: Recorder) -> None:
        peer.setblocking(False)
        self.open = True
        self._peer = peer
        self._recorder = recorder
        self._buffer = b""
        self._awaits_stop = False

    def poll(self) -> None:
        if self._awaits_stop:
            if self._recorder.status().recording:
                return
            self._awaits_stop = False
            self._answer(asdict(self._recorder.status()))
        self._receive()
        while self.open and not self._awaits_stop and b"\n" in self._buffer:
            line, self._buffer = self._buffer.split(b"\n", 1)
            self._execute(line)

    def refuse(self, reason: str) -> None:
        self._answer({"error": reason})
        self.close()

    def close(self) -> None:
        self.open = False
        self._peer.close()

    def _receive(self) -> None:
        try:
            received = self._peer.recv(MAX_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.close()  # the client is gone; nobody is left to tell
            return
        if not received:
            self.close()
            return
        self._buffer += received
        if len(self._buffer) > MAX_LINE_BYTES:
            self.refuse(f"a command has at most {MAX_LINE_BYTES} bytes")

    def _execute(self, line: bytes) -> None:
        try:
            answer = self._command(shlex.split(line.decode("utf-8")))
        except (ValueError, RecordError) as error:
            answer = {"error": str(error)}
        if answer is not None:
            self._answer(answer)

    def _command(self, words: list[str]) -> dict[str, object] | None:
        match words:
            case ["STATUS"]:
                return asdict(self._recorder.status())
            case ["STOP"]:
                self._recorder.stop()
                self._awaits_stop = True
                return None
            case ["START", file]:
                return asdict(self._recorder.start(file))
            case ["START", file, max_bytes]:
                return asdict(self._recorder.start(file, _bytes(max_bytes)))
        given = shlex.join(words)
        raise RecordError(f"unknown command {given!r}: START FILE [MAX_BYTES], STOP or STATUS")

    def _answer(self, answer: dict[str, object]) -> None:
        """Short enough for an empty socket buffer; a client that does not read its answers is dropped."""
        try:
            self._peer.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            self.close()


def _bytes(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise RecordError(f"START: {text!r} is no number of bytes; the default is {DEFAULT_MAX_BYTES}")
    return int(text)


def _peer_uid(peer: socket.socket) -> int:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(credentials)[1])


def _listen(path: str) -> socket.socket:
    try:
        return unix_socket.listen(path, MAX_CONNECTIONS)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        advice = "is another agent running here?" if taken else "the agent must be able to write there"
        raise RecordError(f"record socket {path}: {error.strerror or error}: {advice}") from None


def record_client(path: str | os.PathLike[str], command: str, timeout_s: float = 30.0) -> dict[str, object]:
    """Sends one command and returns the agent's answer.

    Raises RecordError with the agent's reason, or if no agent listens there or it does not answer in time.
    """
    name = os.fspath(path)
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(name)
            connection.sendall(command.encode() + b"\n")
            line = connection.makefile("rb").readline()
        except TimeoutError:
            raise RecordError(
                f"record socket {name}: no answer to {command!r} within {timeout_s} s"
            ) from None
        except OSError as error:
            raise RecordError(f"record socket {name}: {error.strerror}: {_client_hint(error)}") from None
    if not line.endswith(b"\n"):
        raise RecordError(f"record socket {name}: the agent ended before it answered {command!r}")
    answer: dict[str, object] = json.loads(line)
    if "error" in answer:
        raise RecordError(str(answer["error"]))
    return answer


def _client_hint(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "ask as root"
    return "is the agent of this network namespace running?"
