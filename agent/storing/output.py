# SPDX-License-Identifier: Apache-2.0
"""From records to rows in the store, in time: samples every second, summaries when their interval ends.

Intervals are counted on CLOCK_MONOTONIC from the start on: real time may jump.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from agent.clock import Clock
from agent.hops.intake import Intake
from agent.storing.chronicle import Chronicle
from agent.storing.events import event_batch
from agent.storing.store import Sink, StoreFacts
from store.batch import Batch, Labels
from store.schema import HOP_10S, SUMMARIES, Table

SECOND_NS = 1_000_000_000
_SAMPLES = ("samples", "samples_tail")
_NOT_KEPT = "samples_not_kept"


@dataclass(frozen=True, slots=True)
class Totals:
    """What became of the records since the start.

    Exact at the end: records = hops + retransmitted = samples + samples_not_kept.
    """

    hops: int = 0
    """Sum of `count` over the rows of hop_10s."""
    retransmitted: int = 0
    samples: int = 0
    """Rows of hop_sample."""
    samples_not_kept: int = 0


@dataclass(frozen=True, slots=True)
class OutputFacts:
    """What the agent's output says of itself."""

    store: StoreFacts
    totals: Totals
    naming: Mapping[str, int]
    """Hops with unknown or ambiguous names, series beyond the bound; since the start."""


class Output:
    """Puts the rows of an Intake into a Sink. For one thread; times are CLOCK_MONOTONIC in ns.

    `clock` and `boot_id` say when samples were. Intervals are counted from `now_ns` on.
    """

    def __init__(
        self,
        sink: Sink,
        intake: Intake,
        chronicle: Chronicle,
        clock: Clock,
        boot_id: str,
        now_ns: int,
    ) -> None:
        self._sink = sink
        self._intake = intake
        self._chronicle = chronicle
        self._clock = clock
        self._boot_id = boot_id
        self._next_second_ns = now_ns + SECOND_NS
        self._next_ns = {table.name: now_ns + table.interval_s * SECOND_NS for table in SUMMARIES}
        self._hops = self._retransmitted = 0
        self._is_finished = False

    def poll(self, now_ns: int, counters: Callable[[], Mapping[str, int]]) -> None:
        """Do what is due; call it often. `counters` is asked at the end of each shortest interval."""
        if now_ns < self._next_second_ns:
            return
        self._next_second_ns = _after(self._next_second_ns, SECOND_NS, now_ns)
        for table in SUMMARIES:
            if now_ns >= self._next_ns[table.name]:
                self._next_ns[table.name] = _after(
                    self._next_ns[table.name], table.interval_s * SECOND_NS, now_ns
                )
                self._end_interval(table, now_ns)
                if table is HOP_10S:
                    self._chronicle.counters(counters())
        self._put_samples(now_ns)
        self._sink.poll(now_ns)
        self._look_at_store()
        self._put_events(now_ns)

    def finish(self, now_ns: int, counters: Mapping[str, int]) -> None:
        """Put everything that there is into the store, and end. `counters` are the last ones."""
        self._chronicle.counters(counters)
        self._finish(now_ns, self._chronicle.stopped)

    def close(self, now_ns: int) -> None:
        """End without finish(): the agent failed. All that there is goes into the store all the same."""
        if not self._is_finished:
            self._finish(now_ns, self._chronicle.failed)

    def facts(self) -> OutputFacts:
        """Of this moment."""
        counted = dict(self._intake.counters())
        samples = sum(counted.pop(name) for name in _SAMPLES)
        totals = Totals(self._hops, self._retransmitted, samples, counted.pop(_NOT_KEPT))
        return OutputFacts(self._sink.facts(), totals, counted)

    def _finish(self, now_ns: int, last_word: Callable[[], None]) -> None:
        self._is_finished = True
        self._put_samples(now_ns)  # before their interval ends: what waits for a name waits in it
        finest, *coarser = SUMMARIES
        self._end_interval(finest, now_ns)
        self._put(self._intake.last())
        for table in coarser:
            self._end_interval(table, now_ns)
        self._look_at_store()
        last_word()
        self._put_events(now_ns)
        self._sink.close()

    def _end_interval(self, table: Table, now_ns: int) -> None:
        self._put(self._intake.summaries(table, self._clock.offset, now_ns))

    def _put_samples(self, now_ns: int) -> None:
        self._put(self._intake.samples(self._clock.offset, self._boot_id, now_ns))

    def _put(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            if batch.table is HOP_10S:
                self._hops += _sum(batch, "count")
                self._retransmitted += _sum(batch, "retransmitted")
            self._sink.append(batch)

    def _look_at_store(self) -> None:
        facts = self._sink.facts()
        self._chronicle.store(facts.trouble, facts.lost)
        self._chronicle.child("forwarder" if facts.sends else "writer", facts.writer)
        self._chronicle.store_clock(0 if facts.spool is None else facts.spool.clock_off_ns)
        self._chronicle.row_times(facts.ahead_ns)

    def _put_events(self, now_ns: int) -> None:
        events = self._chronicle.take(now_ns)
        if events:
            self._sink.append(event_batch(events))


def _after(due_ns: int, every_ns: int, now_ns: int) -> int:
    """The first end of an interval after `now_ns`; those that were slept through are one."""
    return due_ns + (now_ns - due_ns) // every_ns * every_ns + every_ns


def _sum(batch: Batch, column: str) -> int:
    numbers = batch.columns[column]
    assert not isinstance(numbers, Labels)
    return int(numbers.sum())
