# SPDX-License-Identifier: Apache-2.0
"""Root-only Unix sockets in the file system, one per network namespace and purpose."""

import errno
import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RUN_DIRECTORY = "/run/overhop"
PURPOSES = ("record", "watch")
_LOCK_NAME = "sockets.lock"
_OUR_NAME = re.compile(rf"({'|'.join(PURPOSES)})-[0-9]+\.sock")


def default_path(purpose: str, run_dir: str | os.PathLike[str] = RUN_DIRECTORY) -> Path:
    """Where the agent of this network namespace listens for `purpose`."""
    return Path(run_dir) / f"{purpose}-{os.stat('/proc/self/ns/net').st_ino}.sock"


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
