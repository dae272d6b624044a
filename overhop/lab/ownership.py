# SPDX-License-Identifier: Apache-2.0
"""Who owns a lab: a locked file per lab, so that the next start can remove what a killed owner left.

The lock (flock) ends with the owner, also on SIGKILL; the file's name is the prefix of the lab's namespaces.
"""

import fcntl
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from overhop.lab import netns

DIRECTORY = Path("/run/overhop/labs")
_PREFIX = "oh"


@dataclass(slots=True)
class Claim:
    """A lab's name, held until released or until this process ends."""

    name: str
    _fd: int

    def release(self) -> None:
        """Give the name back; only after everything of the lab is gone."""
        (DIRECTORY / self.name).unlink(missing_ok=True)
        os.close(self._fd)
        _remove_if_empty(DIRECTORY)
        _remove_if_empty(DIRECTORY.parent)


def claim() -> Claim:
    """Take a fresh name: `oh` and 6 hex digits."""
    name = _PREFIX + secrets.token_hex(3)
    # Locked before it gets its name: a sweeper never sees an unlocked file of a living lab.
    unnamed = DIRECTORY / f".{name}"
    fd = _create(unnamed)
    os.write(fd, f"{os.getpid()}\n".encode())
    fcntl.flock(fd, fcntl.LOCK_EX)
    unnamed.rename(DIRECTORY / name)
    return Claim(name, fd)


def _create(path: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # another lab has just removed the empty directory


def sweep() -> list[str]:
    """Remove the labs whose owner is dead, return their names."""
    if not DIRECTORY.is_dir():
        return []
    return [path.name for path in sorted(DIRECTORY.glob(f"{_PREFIX}*")) if _sweep_one(path)]


def _sweep_one(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # its owner, or another sweeper, was quicker
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return False
    if not path.exists():
        os.close(fd)
        return False
    leftovers = netns.named(f"{path.name}-")
    netns.end_processes(leftovers)
    netns.delete(leftovers)
    Claim(path.name, fd).release()
    return True


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return  # others use it
