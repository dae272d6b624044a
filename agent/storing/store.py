# SPDX-License-Identifier: Apache-2.0
"""The embedded store as the agent uses it: rows, writer, mark of presence, and what is said of trouble."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.storing.presence import Predecessor, Presence
from agent.storing.writer import NO_WRITER, WriterStatus, WriterSupervisor, writer_of
from store.appender import Appender, AppenderStatus
from store.batch import Batch

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """How the store takes what is measured. Rows are counted by table."""

    path: str
    appended: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    """Why rows wait."""
    error_since_ns: int | None = None
    """ns since 1970"""
    writer: WriterStatus = NO_WRITER
    ahead_ns: int = 0
    """How far row times are ahead of the clock, because it was set back; 0: they are the clock's."""


class Sink(Protocol):
    """Where rows go; never raises, never waits."""

    def append(self, batch: Batch) -> None:
        """Take rows of one table."""
        ...

    def poll(self, mono_ns: int) -> None:
        """Do what is due (CLOCK_MONOTONIC); about once a second."""
        ...

    def facts(self) -> StoreFacts:
        """How it stands."""
        ...

    def close(self) -> None:
        """Write what waits and let go; returns within seconds."""
        ...


class StoreOutput:
    """A Sink into the embedded store at `path`. Raises StoreError if it cannot be used at all."""

    def __init__(self, path: Path, cluster: str, node: str, writer: WriterSupervisor | None = None) -> None:
        self.predecessor: Predecessor | None = None
        """The agent of this node that was killed, if one was."""
        self._path = path
        self._trouble = _Trouble()
        self._facts: StoreFacts | None = None
        with ExitStack() as stack:
            self._appender = Appender(path, cluster, node)
            stack.callback(self._appender.close)
            self._presence = self._present(path, node)
            self._writer = writer if writer is not None else writer_of(path)
            stack.callback(self._writer.close)
            stack.callback(self._leave)
            self._open = stack.pop_all()

    def append(self, batch: Batch) -> None:
        """Take rows of one table; they are in the store at once, or wait."""
        self._appender.append(batch)

    def poll(self, mono_ns: int) -> None:
        """Try again what waits, look after the writer, say when trouble begins and ends."""
        self._appender.poll()
        self._writer.poll(mono_ns)
        self._trouble.look(self._appender.status())
        self._sign()

    def facts(self) -> StoreFacts:
        """How it stands; after close() how it ended."""
        return self._facts or _facts(self._path, self._appender.status(), self._writer.status)

    def close(self) -> None:
        """Write what waits, once; end the writer."""
        if self._facts is None:
            self._open.close()
            self._trouble.end(self._appender.status())
            self._facts = _facts(self._path, self._appender.status(), self._writer.status)

    def _present(self, path: Path, node: str) -> Presence | None:
        """A disk that is full must not keep the agent from starting."""
        try:
            presence = Presence(path, node)
            self.predecessor = presence.begin()
        except OSError as error:
            _log.warning("cannot mark in the store that this agent runs", extra={"reason": str(error)})
            return None
        return presence

    def _sign(self) -> None:
        try:
            if self._presence is not None:
                self._presence.sign()
        except OSError as error:
            _log.warning("cannot mark in the store that this agent runs", extra={"reason": str(error)})
            self._presence = None

    def _leave(self) -> None:
        try:
            if self._presence is not None:
                self._presence.end()
        except OSError as error:
            _log.warning("cannot take the mark out of the store", extra={"reason": str(error)})


def _facts(path: Path, status: AppenderStatus, writer: WriterStatus) -> StoreFacts:
    return StoreFacts(
        path=str(path),
        appended=status.appended,
        waiting=status.waiting,
        dropped=status.dropped,
        error=status.error,
        error_since_ns=status.error_since_ns,
        writer=writer,
        ahead_ns=status.ahead_ns,
    )


class _Trouble:
    """Says once when rows are not written as they should be, and once when they are again."""

    def __init__(self) -> None:
        self._is_begun = False
        self._dropped_before: Mapping[str, int] = {}
        """At the last look without trouble."""
        self._sync_error: str | None = None
        self._is_ahead = False

    def look(self, status: AppenderStatus) -> None:
        if status.error is not None and not self._is_begun:
            _log.error("rows cannot be stored, they wait in memory", extra={"reason": status.error})
        elif status.error is None and self._is_begun:
            _log.warning("rows are stored again", extra={"dropped": self._dropped(status) or "none"})
        self._is_begun = status.error is not None
        if not self._is_begun:
            self._dropped_before = status.dropped
        if status.sync_error is not None and status.sync_error != self._sync_error:
            _log.error("rows may be lost at a power cut", extra={"reason": status.sync_error})
        self._sync_error = status.sync_error
        self._look_at_times(status.ahead_ns)

    def end(self, status: AppenderStatus) -> None:
        """The last look: what waited is written or dropped by now."""
        if dropped := self._dropped(status):
            _log.error("rows were not stored", extra={"dropped": dropped})

    def _look_at_times(self, ahead_ns: int) -> None:
        if ahead_ns and not self._is_ahead:
            _log.warning("row times are ahead of the clock, which was set back", extra={"ahead_ns": ahead_ns})
        elif self._is_ahead and not ahead_ns:
            _log.info("row times are the clock's again")
        self._is_ahead = bool(ahead_ns)

    def _dropped(self, status: AppenderStatus) -> dict[str, int]:
        more = {table: rows - self._dropped_before.get(table, 0) for table, rows in status.dropped.items()}
        return {table: rows for table, rows in more.items() if rows}
