# SPDX-License-Identifier: Apache-2.0
"""The store's writer: `python -m store.writer DIRECTORY` compacts a store until SIGTERM (docs/store.md).

Exit codes: 0 ended by a signal, 1 failed, 2 wrong usage or no store of ours, 3 another writer holds the lock.
What needs memory (duckdb, numpy) is imported once the lock is held: several agents may each start a writer.
"""

import ctypes
import fcntl
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from store.locks import WRITER_LOCK

_log = logging.getLogger(__name__)

INTERVAL_S: Final = 5.0
INTERRUPT_S: Final = 0.05
FAILED: Final = 1
UNUSABLE: Final = 2
LOCKED: Final = 3
_MALLOC: Final = {-8: 1, -3: 32 << 10, -1: 64 << 10, -2: 0}
"""mallopt(3): one arena; 32 kB and more are mapped, and so given back at once; no room kept at the top."""
_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class Locked(Exception):  # noqa: N818 (says what is the case)
    """Another process writes this store."""


class WriterLock:
    """Held until the process ends. Raises Locked, OSError (FileNotFoundError: there is no directory)."""

    def __init__(self, store: Path) -> None:
        self._path = store / WRITER_LOCK
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(self._descriptor, 20, 0).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise Locked(f"store {store}: another writer (pid {pid or 'unknown'}) works on it") from error
        os.truncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def is_gone(self) -> bool:
        """Whether the lock's file was removed or replaced: another writer may hold the new one."""
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return True


class _End:
    """Whether a signal to end came. They are blocked: a thread takes them, whatever the main one is in."""

    def __init__(self) -> None:
        self._came = threading.Event()
        self._done = threading.Event()

    @contextmanager
    def heard(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Meanwhile; `interrupt` is called again and again once one came."""
        thread = threading.Thread(target=self._work, args=(interrupt,), name="end", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            if thread.ident and not self._came.is_set():
                signal.pthread_kill(thread.ident, signal.SIGTERM)  # it waits for one
            thread.join()

    def is_near(self) -> bool:
        """Whether it came."""
        return self._came.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Whether it came within that time."""
        return self._came.wait(timeout_s)

    def _work(self, interrupt: Callable[[], None]) -> None:
        signal.sigwait(_ENDING)
        self._came.set()
        while not self._done.wait(INTERRUPT_S):  # what is interrupted may be followed by a further step
            interrupt()


def spare_memory() -> None:
    """Before anything large is imported: what was freed does not stay, a tenth of the peak."""
    libc = ctypes.CDLL(None)
    for option, value in _MALLOC.items():
        libc.mallopt(option, value)


def main(arguments: list[str]) -> int:
    """The process; returns its exit code."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(message)s")
    if len(arguments) != 1 or arguments[0].startswith("-"):
        _log.error("usage: python -m store.writer DIRECTORY")
        return UNUSABLE
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # a thread of its own waits for them
    os.umask(0o077)
    spare_memory()
    try:
        return _write(Path(arguments[0]))
    except Locked as error:
        _log.warning("%s", error)
        return LOCKED
    except OSError as error:
        _log.error("store %s: %s: look at the directory and its rights", arguments[0], error)
        return FAILED


def _write(store: Path) -> int:
    if not (store / "version").exists() and not _create(store):
        return UNUSABLE
    lock = WriterLock(store)

    from store.compactor import Compactor
    from store.layout import check_store
    from store.merging import Surroundings
    from store.query import StoreError

    try:
        check_store(store)
    except StoreError as error:
        _log.error("%s", error)
        return UNUSABLE
    end = _End()
    compactor = Compactor(store, around=Surroundings(is_ending=end.is_near))
    compactor.remove_unfinished()
    with end.heard(compactor.interrupt):
        while not end.wait(INTERVAL_S):
            if lock.is_gone():
                _log.error("store %s: the writer's lock was removed, another writer may work: ends", store)
                return FAILED
            compactor.round()
    return 0


def _create(store: Path) -> bool:
    from store.layout import create_store
    from store.query import StoreError

    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        create_store(store)
    except StoreError as error:
        _log.error("%s", error)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
