# SPDX-License-Identifier: Apache-2.0
"""The store as the agent uses it: rows, the process beside, mark of presence, and what is said of trouble.

Rows go into a directory: the embedded store itself, or the spool out of which a forwarder sends them.
"""

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agent.storing.child import NO_CHILD, ChildStatus, Supervisor, writer_of
from agent.storing.forwarding import ForwardConfig, Forwarding
from agent.storing.presence import Predecessor, Presence
from store.appender import Appender, AppenderStatus
from store.batch import Batch
from store.spool.facts import SpoolFacts
from store.spool.places import require_store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """How the store takes what is measured. Rows are counted by table."""

    path: str
    """The directory, or the server."""
    appended: Mapping[str, int] = field(default_factory=dict)
    """Into the store; of a server: into the spool."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """In memory."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    """Why rows wait in memory."""
    error_since_ns: int | None = None
    """ns since 1970"""
    writer: ChildStatus = NO_CHILD
    ahead_ns: int = 0
    """How far row times are ahead of the clock, because it was set back; 0: they are the clock's."""
    sends: bool = False
    """Whether rows go to a server: `writer` is then the forwarder."""
    not_taken: Mapping[str, int] = field(default_factory=dict)
    """Rows that the server has no place for: line-protocol clusters take summaries only."""
    spool: SpoolFacts | None = None
    """Of a server: how sending stands; None: there is none, or the forwarder said nothing yet."""

    @property
    def trouble(self) -> str | None:
        """Why rows are not where they belong; None: they are."""
        if self.error is not None or self.spool is None:
            return self.error
        return self.spool.error

    @property
    def trouble_since_ns(self) -> int | None:
        """When that began, ns since 1970."""
        if self.error is not None or self.spool is None:
            return self.error_since_ns
        return self.spool.error_since_ns

    @property
    def lost(self) -> int:
        """Rows that are nowhere: this agent's that were never written down, the spool's since it was made."""
        spooled = 0 if self.spool is None else sum(self.spool.dropped.values())
        return sum(self.dropped.values()) + spooled


class Keeper(Protocol):
    """The process that makes of appended rows what they are kept as."""

    @property
    def status(self) -> ChildStatus:
        """Of this moment."""
        ...

    def poll(self, mono_ns: int) -> None:
        """Look after it (CLOCK_MONOTONIC); about once a second, never waits."""
        ...

    def close(self) -> None:
        """End it; returns within seconds."""
        ...


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
    """A Sink into the directory `path`, the embedded store unless there is a `forwarding` to a server.

    Raises StoreError if it cannot be used at all.
    """

    def __init__(
        self,
        path: Path,
        cluster: str,
        node: str,
        writer: Supervisor | None = None,
        forwarding: Forwarding | None = None,
        shown: str = "",
    ) -> None:
        """`shown`: how messages call it, if not by its path."""
        self.predecessor: Predecessor | None = None
        """The agent of this node that was killed, if one was."""
        self._shown = shown or str(path)
        self._forwarding = forwarding
        self._not_taken: Counter[str] = Counter()
        self._trouble = _Trouble()
        self._facts: StoreFacts | None = None
        if forwarding is None:
            require_store(path)
        with ExitStack() as stack:
            self._keeper: Keeper = forwarding or writer or writer_of(path)
            stack.callback(self._keeper.close)
            refusal = (lambda: None) if forwarding is None else (lambda: forwarding.refusal)
            self._appender = Appender(path, cluster, node, refusal=refusal)
            stack.callback(self._appender.close)
            self._presence = self._present(path, node)
            stack.callback(self._leave)
            self._open = stack.pop_all()

    def append(self, batch: Batch) -> None:
        """Take rows of one table; they are in the store at once, or wait."""
        if self._forwarding is not None and batch.table not in self._forwarding.tables:
            self._not_taken[batch.table.name] += len(batch)
            return
        self._appender.append(batch)

    def poll(self, mono_ns: int) -> None:
        """Try again what waits, look after the process beside, say when trouble begins and ends."""
        self._appender.poll()
        self._keeper.poll(mono_ns)
        self._trouble.look(self._appender.status(), self._spool)
        self._sign()

    def facts(self) -> StoreFacts:
        """How it stands; after close() how it ended."""
        return self._facts or self._facts_now()

    def close(self) -> None:
        """Write what waits, once; end the process beside, which sends what it can."""
        if self._facts is None:
            self._open.close()
            self._trouble.end(self._appender.status())
            self._facts = self._facts_now()

    @property
    def _spool(self) -> SpoolFacts | None:
        return None if self._forwarding is None else self._forwarding.facts

    def _facts_now(self) -> StoreFacts:
        status = self._appender.status()
        return StoreFacts(
            path=self._shown,
            appended=status.appended,
            waiting=status.waiting,
            dropped=status.dropped,
            error=status.error,
            error_since_ns=status.error_since_ns,
            writer=self._keeper.status,
            ahead_ns=status.ahead_ns,
            sends=self._forwarding is not None,
            not_taken=dict(self._not_taken),
            spool=self._spool,
        )

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


def server_output(config: ForwardConfig, cluster: str, node: str) -> StoreOutput:
    """A Sink into a server, by way of a spool. Raises StoreError if the spool cannot be used at all."""
    forwarding = Forwarding(config, node)
    return StoreOutput(config.spool, cluster, node, forwarding=forwarding, shown=str(config.parsed_target()))


class _Trouble:
    """Says once when rows are not written as they should be, and once when they are again."""

    def __init__(self) -> None:
        self._is_begun = False
        self._dropped_before: Mapping[str, int] = {}
        """At the last look without trouble."""
        self._sync_error: str | None = None
        self._is_ahead = False
        self._is_unsent = False
        self._lost_before: Mapping[str, int] = {}

    def look(self, status: AppenderStatus, spool: SpoolFacts | None) -> None:
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
        if spool is not None:
            self._look_at_spool(spool)

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

    def _look_at_spool(self, spool: SpoolFacts) -> None:
        if spool.error is not None and not self._is_unsent:
            _log.error("rows cannot be sent, they wait in the spool", extra={"reason": spool.error})
        elif spool.error is None and self._is_unsent:
            waiting = sum(spool.waiting.values())
            _log.warning("rows are sent again", extra={"waiting": waiting})
        self._is_unsent = spool.error is not None
        more = {reason: rows - self._lost_before.get(reason, rows) for reason, rows in spool.dropped.items()}
        if more := {reason: rows for reason, rows in more.items() if rows > 0}:
            _log.error("rows fell out of the spool", extra=more)
        self._lost_before = spool.dropped

    def _dropped(self, status: AppenderStatus) -> dict[str, int]:
        more = {table: rows - self._dropped_before.get(table, 0) for table, rows in status.dropped.items()}
        return {table: rows for table, rows in more.items() if rows}
