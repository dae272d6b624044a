# SPDX-License-Identifier: Apache-2.0
"""Root-only Unix sockets in the file system, one per network namespace and purpose: lines in, JSON lines out.

Servers and clients never block: the agent's loop calls when it has time.
"""

import errno
import fcntl
import json
import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

RUN_DIRECTORY = "/run/overhop"
PURPOSES = ("record", "watch")
MAX_UNSENT_BYTES = 1 << 20
"""A client that leaves more unread is dropped; the largest answer has 300 KB."""
_UCRED = struct.Struct("3i")
_LOCK_NAME = "sockets.lock"
_OUR_NAME = re.compile(rf"({'|'.join(PURPOSES)})-[0-9]+\.sock")


def default_path(purpose: str, run_dir: str | os.PathLike[str] = RUN_DIRECTORY) -> Path:
    """Where the agent of this network namespace listens for `purpose`."""
    return path_of(purpose, os.stat("/proc/self/ns/net").st_ino, run_dir)


def path_of(purpose: str, netns_inode: int, run_dir: str | os.PathLike[str] = RUN_DIRECTORY) -> Path:
    """Where the agent of that network namespace listens for `purpose`."""
    return Path(run_dir) / f"{purpose}-{netns_inode}.sock"


def listen(path: str, backlog: int) -> socket.socket:
    """A non-blocking listener with mode 0600; a socket that nobody listens at any more is replaced.

    Raises OSError, EADDRINUSE if somebody does.
    """
    directory = Path(path).parent
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(directory):
            if _is_stale(Path(path)):
                Path(path).unlink()
            previous = os.umask(0o177)
            try:
                listener.bind(path)
            finally:
                os.umask(previous)
            listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


class LineServer:
    """Listens at `path`; clients beyond `max_clients` are told so. Raises OSError as listen() does."""

    def __init__(self, path: str | os.PathLike[str], max_clients: int, max_line_bytes: int) -> None:
        self.path = os.fspath(path)
        self._max_clients = max_clients
        self._max_line_bytes = max_line_bytes
        self._socket = listen(self.path, max_clients)

    def fileno(self) -> int:
        """For select(2): readable when somebody connects."""
        return self._socket.fileno()

    def accept(self, clients: int) -> list["LineClient"]:
        """Those who connected since the last call, where there are so many clients already."""
        found: list[LineClient] = []
        while True:
            try:
                peer, _ = self._socket.accept()
            except BlockingIOError:
                return found
            client = LineClient(peer, self._max_line_bytes)
            if clients + len(found) >= self._max_clients:
                client.refuse(f"{self._max_clients} clients are connected already: try later")
            else:
                found.append(client)

    def close(self) -> None:
        """Stop listening and remove the socket; the clients are their owner's."""
        self._socket.close()
        Path(self.path).unlink(missing_ok=True)


class LineClient:
    """One connection: its unfinished line, and what it still has to get."""

    def __init__(self, peer: socket.socket, max_line_bytes: int) -> None:
        peer.setblocking(False)
        self.open = True
        self._peer = peer
        self._max_line_bytes = max_line_bytes
        self._in = b""
        self._out = b""

    @property
    def has_unsent(self) -> bool:
        """Whether an answer is on its way."""
        return bool(self._out)

    def uid(self) -> int:
        """User id of the other side, when it connected."""
        credentials = self._peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return int(_UCRED.unpack(credentials)[1])

    def receive(self) -> None:
        """Take what there is, once, unless a whole line waits already: who asks too fast is held up."""
        if not self.open or b"\n" in self._in:
            return
        try:
            received = self._peer.recv(self._max_line_bytes)
        except BlockingIOError:
            return
        except OSError:
            self.close()  # the client is gone; nobody is left to tell
            return
        if not received:
            self.close()
            return
        self._in += received
        if len(self._in.partition(b"\n")[0]) > self._max_line_bytes:
            self.refuse(f"a command has at most {self._max_line_bytes} bytes")

    def next_line(self) -> bytes | None:
        """The oldest whole line, without its end; None if there is none."""
        line, end, rest = self._in.partition(b"\n")
        if not self.open or not end:
            return None
        self._in = rest
        return line

    def send(self, answer: Mapping[str, object]) -> None:
        """One line of JSON, as far as it goes now; flush() sends the rest."""
        self._out += json.dumps(answer, separators=(",", ":")).encode() + b"\n"
        self.flush()
        if len(self._out) > MAX_UNSENT_BYTES:
            self.close()

    def flush(self) -> None:
        """Send what waits, as far as it goes now."""
        if not self._out or not self.open:
            return
        try:
            self._out = self._out[self._peer.send(self._out) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def refuse(self, reason: str) -> None:
        """Say why, and end the connection."""
        self.send({"error": reason})
        self.close()

    def close(self) -> None:
        """End the connection; may be called twice."""
        self.open = False
        self._peer.close()


def remove_stale(run_dir: str | os.PathLike[str] = RUN_DIRECTORY) -> list[str]:
    """Remove the sockets of agents that were killed, of every network namespace; their file names.

    Only ours, by name and owner, and only where nobody listens. Raises OSError.
    """
    directory = Path(run_dir)
    if not directory.is_dir():
        return []
    removed = []
    with _locked(directory):
        for path in sorted(directory.iterdir()):
            if _OUR_NAME.fullmatch(path.name) and _is_stale(path):
                path.unlink()
                removed.append(path.name)
    return removed


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Bound and not yet listening looks like dead: whoever makes a socket or removes one is alone with it.

    Not the directory itself: others may open that, and whoever can open can lock.
    """
    descriptor = os.open(directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_stale(path: Path) -> bool:
    """Whether a socket of ours is there that nobody listens at any more."""
    try:
        if path.is_symlink() or not path.is_socket() or path.lstat().st_uid != os.geteuid():
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(os.fspath(path)) == errno.ECONNREFUSED
