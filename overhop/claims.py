# SPDX-License-Identifier: Apache-2.0
"""Names that a process holds: a locked file each, so that the next start can remove what a killed owner left.

The lock (flock) ends with the owner, also on SIGKILL. The file has the owner's pid in its first line.
"""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Claim:
    """A name, held until released or until this process ends."""

    path: Path
    note: str
    """What its owner wrote down of it."""
    _fd: int

    @property
    def name(self) -> str:
        """What is claimed."""
        return self.path.name

    def release(self) -> None:
        """Give the name back; only after everything that goes by it is gone."""
        self.path.unlink(missing_ok=True)
        self.let_go()
        _remove_if_empty(self.path.parent)
        _remove_if_empty(self.path.parent.parent)

    def let_go(self) -> None:
        """Leave the name to the next sweep."""
        os.close(self._fd)


def claim(directory: Path, name: str, note: str = "") -> Claim:
    """Take a name that nobody ever had. Raises OSError."""
    # Locked before it gets its name: a sweeper never sees an unlocked file of a living owner.
    unnamed = directory / f".{name}"
    fd = _create(unnamed)
    os.write(fd, f"{os.getpid()}\n{note}".encode())
    fcntl.flock(fd, fcntl.LOCK_EX)
    unnamed.rename(directory / name)
    return Claim(directory / name, note, fd)


def abandoned(directory: Path, pattern: str) -> Iterator[Claim]:
    """The names of dead owners, as ours: release() each once what goes by it is gone."""
    for path in sorted(directory.glob(pattern)) if directory.is_dir() else ():
        found = _taken_over(path)
        if found is not None:
            yield found


def _taken_over(path: Path) -> Claim | None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # its owner, or another sweeper, was quicker
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if not path.exists():
        os.close(fd)
        return None
    _, _, note = path.read_text(errors="surrogateescape").partition("\n")
    return Claim(path, note, fd)


def _create(path: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # another owner has just removed the empty directory


def _remove_if_empty(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        return  # others use it
