# SPDX-License-Identifier: Apache-2.0
"""Compiled programs on disk, so that only the first start of an agent needs the compiler.

What is found is given to the kernel, so it must be ours: the directory and its files belong to the agent's
user and nobody else may write to them; each file has the SHA-256 of its content. What is not as it must be is
as good as not there: the reason is logged at debug, and the caller compiles.
"""

import hashlib
import json
import logging
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final, Self

from bpf.bytecode import Bytecode, MapDefinition

DIRECTORY: Final = Path("/var/cache/overhop")
DIRECTORY_VARIABLE: Final = "OVERHOP_CACHE_DIR"
FORMAT: Final = 1
MAX_FILES: Final = 16
MAX_BYTES: Final = 4 << 20
"""Of one file; the programs with all that is in them have 140 KB."""
_MAGIC: Final = f"overhop programs {FORMAT}\n".encode()
_SUFFIX: Final = ".programs"
_DRAFT: Final = ".draft"
_DIGEST_CHARS: Final = 64
_log = logging.getLogger(__name__)


class ProgramCache:
    """The directory. Making one touches no file."""

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.directory = directory

    @classmethod
    def of_this_machine(cls) -> Self | None:
        """Where OVERHOP_CACHE_DIR says, else /var/cache/overhop; None if the variable is empty."""
        named = os.environ.get(DIRECTORY_VARIABLE, str(DIRECTORY))
        return cls(Path(named)) if named else None

    def find(self, key: str) -> Bytecode | None:
        """What was kept under `key` and is still good: whole, and the compiler has not changed since."""
        try:
            with self._opened() as directory:
                found = _parsed(_read(_file_name(key), directory), key)
                os.utime(_file_name(key), dir_fd=directory)  # the least recently used goes first
                return found
        except (OSError, ValueError, LookupError, TypeError) as error:  # the last two: of a later release
            _log.debug("no compiled programs", extra={"directory": str(self.directory), "reason": str(error)})
            return None

    def keep(self, key: str, bytecode: Bytecode, toolchain: Iterable[str]) -> None:
        """Write it down for find(). `toolchain`: files whose change means another compiler."""
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            with self._opened() as directory:
                _write(_file_name(key), _text(key, bytecode, toolchain), directory)
                _remove_oldest(directory)
        except OSError as error:
            _log.debug("programs not kept", extra={"directory": str(self.directory), "reason": str(error)})

    @contextmanager
    def _opened(self) -> Iterator[int]:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        directory = os.open(self.directory, flags)
        try:
            _require_ours(os.fstat(directory), str(self.directory))
            yield directory
        finally:
            os.close(directory)


def _require_ours(found: os.stat_result, what: str) -> None:
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{what} belongs to user id {found.st_uid}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others may write to {what} (mode {stat.S_IMODE(found.st_mode):04o})")


def _read(name: str, directory: int) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, dir_fd=directory), "rb") as file:
        found = os.fstat(file.fileno())
        _require_ours(found, name)
        if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
            raise ValueError(f"{name}: no file of at most {MAX_BYTES} bytes")
        return file.read(MAX_BYTES)


def _write(name: str, content: bytes, directory: int) -> None:
    """Whole or not at all."""
    draft = f"{secrets.token_hex(8)}{_DRAFT}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(draft, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(draft, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.unlink(draft, dir_fd=directory)
        raise


def _remove_oldest(directory: int) -> None:
    """Beyond MAX_FILES, drafts of killed agents included; nothing that has another name."""
    ours = [name for name in os.listdir(directory) if name.endswith((_SUFFIX, _DRAFT))]
    ages = {name: _used_ns(name, directory) for name in ours}
    for name in sorted(ours, key=lambda one: -ages[one])[MAX_FILES:]:
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            continue  # another agent was here too


def _used_ns(name: str, directory: int) -> int:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return 0


def _file_name(key: str) -> str:
    return f"{key[:24]}{_SUFFIX}"


def _text(key: str, bytecode: Bytecode, toolchain: Iterable[str]) -> bytes:
    head = {
        "key": key,
        "toolchain": {path: _state(path) for path in toolchain},
        "license": bytecode.license,
        "maps": [astuple(one) for one in bytecode.maps],
        "code_bytes": {name: len(code) for name, code in bytecode.programs.items()},
    }
    content = json.dumps(head).encode() + b"\n" + b"".join(bytecode.programs.values())
    return _MAGIC + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def _parsed(text: bytes, key: str) -> Bytecode:
    """Raises ValueError."""
    if not text.startswith(_MAGIC):
        raise ValueError("another format")
    digest, _, content = text.removeprefix(_MAGIC).partition(b"\n")
    if (
        len(digest) != _DIGEST_CHARS
        or digest.decode("ascii", "replace") != hashlib.sha256(content).hexdigest()
    ):
        raise ValueError("damaged: the SHA-256 of the content is another")
    line, _, code = content.partition(b"\n")
    head: dict[str, Any] = json.loads(line)  # of _text()
    if head["key"] != key:
        raise ValueError("of another key")
    _require_same_toolchain(head["toolchain"])
    ends = list(accumulate(head["code_bytes"].values(), initial=0))
    codes = [code[begin:end] for begin, end in pairwise(ends)]
    return Bytecode(
        head["license"],
        tuple(MapDefinition(*one) for one in head["maps"]),
        dict(zip(head["code_bytes"], codes, strict=True)),
    )


def _require_same_toolchain(then: dict[str, list[int] | None]) -> None:
    """A compiler that was upgraded counts as another one, one that was removed is not missed."""
    now = {path: _state(path) for path in then}
    if any(now.values()) and now != then:
        changed = sorted(path for path in then if now[path] != then[path])
        raise ValueError(f"compiled by another compiler: {', '.join(changed)}")


def _state(path: str) -> list[int] | None:
    """Size in bytes and time of the last change in ns; None: not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
