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
from collections.abc import Collection
from dataclasses import asdict

from agent.sockets.recording import (
    DEFAULT_MAX_BYTES,
    Recorder,
    RecordError,
    RecordingHeader,
    RecordStatus,
    read_recording,
)
from agent.sockets.unix_socket import LineClient, LineServer

__all__ = [
    "RecordError",
    "RecordServer",
    "RecordStatus",
    "Recorder",
    "RecordingHeader",
    "read_recording",
    "record_client",
]

MAX_LINE_BYTES = 8192
MAX_CONNECTIONS = 8


class RecordServer:
    """Listens at `path` (mode 0600); the agent's loop calls `poll` after each read of the ring; never blocks.

    Raises RecordError if another agent listens there or the socket cannot be made.
    """

    def __init__(
        self, path: str | os.PathLike[str], recorder: Recorder, allowed_uids: Collection[int] = (0,)
    ) -> None:
        self._recorder = recorder
        self._allowed_uids = frozenset(allowed_uids)
        self._clients: list[_Client] = []
        self._server = _listening(path)
        self.path = self._server.path

    def fileno(self) -> int:
        """For select(2): readable when somebody connects."""
        return self._server.fileno()

    @property
    def has_clients(self) -> bool:
        """Whether somebody is connected."""
        return bool(self._clients)

    def poll(self) -> None:
        """Accepts, reads, answers, as far as that is possible now."""
        for line in self._server.accept(len(self._clients)):
            if (uid := line.uid()) in self._allowed_uids:
                self._clients.append(_Client(line, self._recorder))
            else:
                line.refuse(f"user id {uid} may not record: ask as root")
        for client in self._clients:
            client.poll()
        self._clients = [client for client in self._clients if client.line.open]

    def close(self) -> None:
        """Stops listening and removes the socket; the recorder stays as it is."""
        for client in self._clients:
            client.line.close()
        self._server.close()


class _Client:
    """One client, and whether it waits for the end of a recording."""

    def __init__(self, line: LineClient, recorder: Recorder) -> None:
        self.line = line
        self._recorder = recorder
        self._awaits_stop = False

    def poll(self) -> None:
        if self._awaits_stop:
            if self._recorder.status().recording:
                return
            self._awaits_stop = False
            self.line.send(asdict(self._recorder.status()))
        self.line.flush()
        self.line.receive()
        while not self._awaits_stop and (command := self.line.next_line()) is not None:
            self._execute(command)

    def _execute(self, line: bytes) -> None:
        try:
            answer = self._command(shlex.split(line.decode("utf-8")))
        except (ValueError, RecordError) as error:
            answer = {"error": str(error)}
        if answer is not None:
            self.line.send(answer)

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


def _bytes(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise RecordError(f"START: {text!r} is no number of bytes; the default is {DEFAULT_MAX_BYTES}")
    return int(text)


def _listening(path: str | os.PathLike[str]) -> LineServer:
    try:
        return LineServer(path, MAX_CONNECTIONS, MAX_LINE_BYTES)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        advice = "is another agent running here?" if taken else "the agent must be able to write there"
        reason = error.strerror or error
        raise RecordError(f"record socket {os.fspath(path)}: {reason}: {advice}") from None


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
