# SPDX-License-Identifier: Apache-2.0
"""One agent per network namespace: an abstract Unix socket (man 7 unix), which ends with its holder."""

import errno
import socket
import struct
import threading
from types import TracebackType
from typing import Final, Self

_NAME: Final = "\0overhop-agent"
_BACKLOG: Final = 64


class AlreadyRunning(Exception):  # noqa: N818 (says what is the case)
    """Another process holds the lock; `pid` is 0 if it cannot be seen from here (another PID namespace)."""

    def __init__(self, pid: int) -> None:
        holder = f"pid {pid}" if pid else "its pid cannot be seen from here"
        super().__init__(
            f"lock this network namespace: an overhop agent is already running ({holder}): stop it first"
        )
        self.pid = pid


class AgentLock:
    """Held from construction to `close()` or the end of the process. Raises AlreadyRunning."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(_NAME)
            self._socket.listen(_BACKLOG)
        except OSError as error:
            self._socket.close()
            if error.errno != errno.EADDRINUSE:
                raise
            raise AlreadyRunning(holder_pid() or 0) from error
        self._receptionist = threading.Thread(target=self._receive_callers, name="lock", daemon=True)
        self._receptionist.start()

    def close(self) -> None:
        """Let the next one in."""
        if self._socket.fileno() < 0:
            return
        self._socket.shutdown(socket.SHUT_RDWR)
        self._receptionist.join()
        self._socket.close()

    def _receive_callers(self) -> None:
        """Whoever wants to know our pid connects; the queue of those must not fill up."""
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError as error:
                if error.errno == errno.EINVAL:  # shut down
                    return
                raise
            caller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def holder_pid() -> int | None:
    """Process that holds the lock of this network namespace.

    None: nobody does; 0: one that cannot be seen from here (another PID namespace).
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.setblocking(False)
        try:
            channel.connect(_NAME)
        except ConnectionRefusedError:
            return None
        except BlockingIOError:
            return 0
        pid, _, _ = struct.unpack("=3i", channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)
