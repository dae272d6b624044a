# SPDX-License-Identifier: Apache-2.0
"""Root-only Unix sockets in the file system, one per network namespace and purpose."""

import os
import socket
from pathlib import Path

RUN_DIRECTORY = "/run/overhop"


def default_path(purpose: str, run_dir: str | os.PathLike[str] = RUN_DIRECTORY) -> Path:
    """Where the agent of this network namespace listens for `purpose`."""
    return Path(run_dir) / f"{purpose}-{os.stat('/proc/self/ns/net').st_ino}.sock"


def listen(path: str, backlog: int) -> socket.socket:
    """A non-blocking listener with mode 0600; a socket that nobody listens at any more is replaced.

    Raises OSError, EADDRINUSE if somebody does.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_stale(path):
            Path(path).unlink(missing_ok=True)
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


def _is_stale(path: str) -> bool:
    """Whether a socket is there that nobody listens at any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return Path(path).is_socket()
        except FileNotFoundError:
            return False
    return False
