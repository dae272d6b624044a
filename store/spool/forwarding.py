# SPDX-License-Identifier: Apache-2.0
"""From the spool to the server: in order per table, at a bounded rate, again until it is there.

A table that fails (its bucket is missing) waits alone; a server that fails makes all of them wait.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from store.influxdb.http import Refused, Unreachable
from store.influxdb.lines import lines_of
from store.influxdb.target import Target
from store.query import StoreError
from store.schema import Table
from store.segment import Frame
from store.spool.facts import SpoolFacts
from store.spool.lane import Lane, Piece, largest
from store.spool.position import PositionFile

LOOK_S: Final = 0.5
FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 30.0
CLOCK_OFF_NS: Final = 2_000_000_000
"""HTTP says its time by the second, and an answer takes a moment."""
_OWN: Final = frozenset({400, 404, 413, 422})
"""Answers that are about one bucket; all others are about the server."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait, and how fast it goes."""

    spool_bytes: int
    spool_age_s: float
    rows_per_s: float


class Sending(Protocol):
    """What a batch is given to: store.spool.sending.Sender."""

    def send(self, table: Table, lines: Sequence[bytes]) -> int:
        """How many lines were refused; raises Unreachable, Refused."""
        ...

    @property
    def clock_ns(self) -> int | None:
        """The server's clock at its last answer, ns since 1970."""
        ...


@dataclass(slots=True)
class _Patience:
    """When to try again, and why it was in vain."""

    error: str | None = None
    since_ns: int | None = None
    retry_at_s: float = 0.0
    wait_s: float = FIRST_RETRY_S

    def good(self) -> None:
        self.error = self.since_ns = None
        self.retry_at_s, self.wait_s = 0.0, FIRST_RETRY_S

    def failed(self, error: StoreError, now_s: float, now_ns: int) -> None:
        self.error, self.since_ns = str(error), self.since_ns or now_ns
        asked_s = error.retry_after_s if isinstance(error, Refused) else None
        self.retry_at_s = now_s + min(max(asked_s or 0.0, self.wait_s), 2 * LAST_RETRY_S)
        self.wait_s = min(2 * self.wait_s, LAST_RETRY_S)


@dataclass(slots=True)
class _Pace:
    """Rows that may go: a bucket that holds one second's worth."""

    rows_per_s: float
    rows: float
    at_s: float

    def wait_s(self, now_s: float) -> float:
        """How long until the next batch may go; 0: now."""
        self.rows = min(self.rows_per_s, self.rows + (now_s - self.at_s) * self.rows_per_s)
        self.at_s = now_s
        return max(0.0, -self.rows / self.rows_per_s)


class Forwarder:
    """Sends what appenders put into `lanes`. `turn()` again and again; for one thread."""

    def __init__(
        self,
        target: Target,
        lanes: Sequence[Lane],
        positions: PositionFile,
        sending: Sending,
        bounds: Bounds,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.sending = sending
        self._target, self._lanes, self._positions, self._bounds = target, lanes, positions, bounds
        self._monotonic, self._clock = monotonic, clock
        self._server = _Patience()
        self._own = {lane.table.name: _Patience() for lane in lanes}
        self._pace = _Pace(bounds.rows_per_s, bounds.rows_per_s, monotonic())
        self._clock_off_ns = 0

    def look(self) -> None:
        """See what is in the spool, keep it within its bounds. Raises OSError."""
        now_ns = self._clock()
        for lane in self._lanes:
            lane.look()
            keeps_s = min(self._bounds.spool_age_s, lane.table.retention_s)
            if dropped := lane.drop_before(now_ns - int(keeps_s * 1e9)):
                lane.position.too_old += dropped
                self._positions.keep(lane.table)
        while sum(lane.size_bytes for lane in self._lanes) > self._bounds.spool_bytes:
            full = largest(self._lanes)
            if full is None:
                return
            full.position.no_room += full.drop_first()
            self._positions.keep(full.table)

    def turn(self) -> float:
        """Send at most one batch of each table; how long to wait then, in s. Raises OSError."""
        sent_any = False
        for lane in self._lanes:
            now_s = self._monotonic()
            patience = self._own[lane.table.name]
            if now_s < max(self._server.retry_at_s, patience.retry_at_s):
                continue
            if wait_s := self._pace.wait_s(now_s):
                return min(wait_s, LOOK_S)
            sent_any |= self._send_of(lane, patience)
        return 0.0 if sent_any else LOOK_S

    @property
    def is_empty(self) -> bool:
        """Whether everything was sent, at the last look."""
        return not any(lane.rows for lane in self._lanes)

    @property
    def is_failing(self) -> bool:
        """Whether something waits because it could not be sent."""
        return self._error() is not None

    def retry_now(self) -> None:
        """Nothing waits any longer: something has changed, or there is no time."""
        for patience in (self._server, *self._own.values()):
            patience.retry_at_s = 0.0

    def facts(self) -> SpoolFacts:
        """How it stands."""
        failing = self._error()
        places = {lane.table.name: lane.position for lane in self._lanes}
        oldest = [lane.oldest_ns for lane in self._lanes if lane.oldest_ns is not None]
        return SpoolFacts(
            sent={name: each.sent for name, each in places.items()},
            rejected={name: each.rejected for name, each in places.items()},
            no_room={name: each.no_room for name, each in places.items()},
            too_old={name: each.too_old for name, each in places.items()},
            damaged={name: each.damaged for name, each in places.items()},
            waiting={lane.table.name: lane.rows for lane in self._lanes},
            torn=sum(each.torn for each in places.values()),
            size_bytes=sum(lane.size_bytes for lane in self._lanes),
            limit_bytes=self._bounds.spool_bytes,
            oldest_ns=min(oldest, default=None),
            error=failing.error if failing else None,
            error_since_ns=failing.since_ns if failing else None,
            clock_off_ns=self._clock_off_ns,
        )

    def _error(self) -> _Patience | None:
        return next((each for each in (self._server, *self._own.values()) if each.error), None)

    def _send_of(self, lane: Lane, patience: _Patience) -> bool:
        """Whether a batch of that lane was sent."""
        try:
            piece = lane.read()
            if piece is None:
                return False
            self._send(lane, piece)
        except StoreError as error:
            is_own = isinstance(error, Refused) and error.status in _OWN
            is_servers = isinstance(error, Unreachable | Refused) and not is_own
            who = self._server if is_servers else patience
            who.failed(error, self._monotonic(), self._clock())
            return False
        self._server.good()
        patience.good()
        return True

    def _send(self, lane: Lane, piece: Piece) -> None:
        """Raises StoreError; then nothing of the piece counts as sent."""
        keeps_ns = int(lane.table.retention_s * 1e9)
        fresh = [frame for frame in piece.frames if frame.first_ns >= self._clock() - keeps_ns]
        rejected = self._deliver(lane.table, fresh) if fresh else 0
        rows = sum(frame.rows for frame in fresh)
        self._pace.rows -= rows
        lane.advance(piece)
        lane.position.sent += rows - rejected
        lane.position.rejected += rejected
        lane.position.too_old += piece.rows - rows
        self._positions.keep(lane.table)

    def _deliver(self, table: Table, frames: Sequence[Frame]) -> int:
        lines = [line for frame in frames for line in lines_of(self._target, table, frame.columns)]
        rejected = self.sending.send(table, lines)
        server_ns = self.sending.clock_ns
        if server_ns is not None:
            off_ns = server_ns - self._clock()
            self._clock_off_ns = off_ns if abs(off_ns) > CLOCK_OFF_NS else 0
        return rejected
