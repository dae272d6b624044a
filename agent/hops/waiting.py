# SPDX-License-Identifier: Apache-2.0
"""Rows that wait until it is known what the marks in them stand for; in order, and not for long."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from agent.hops.aggregate import Aggregator, Interval
from agent.naming.marks import is_mark, marks_in
from agent.naming.namer import COUNTED, counted_as
from agent.naming.names import COLUMNS, EndNames, Row
from store.batch import Batch, Labels
from store.schema import SERIES

LATE_NS: Final = 2_000_000_000
"""Rows of samples are taken a second after their hops, so that an interval has some of the one before."""
_SERVICE: Final = "service"
_ENDS: Final = (("src_ns", "src_pod", "src_workload"), ("dst_ns", "dst_pod", "dst_workload"))
_UNKNOWN: Final = EndNames("", "", "unknown")
Answers = Mapping[str, EndNames]


class Asked(Protocol):
    """A question that was asked. `answers` None: there are none yet."""

    answers: Answers | None


class Asks(Protocol):
    """Whom to ask; agent.control.asker.Asker is one."""

    def ask(self, marks: Iterable[str], from_ns: int, until_ns: int) -> Asked:
        """What these marks stand for in a time (real time, ns)."""

    def hurry(self) -> None:
        """Ask now, whatever is still to be asked."""

    def latest(self, mark: str) -> EndNames | None:
        """The last answer, of whatever time."""


@dataclass(slots=True)
class _Waiting:
    """An interval that is over."""

    part: Interval
    samples: list[Batch]
    asked: Asked | None
    until_s: float


@dataclass(slots=True)
class Waiting:
    """What waits. `wait_s`: how long at most. Times: `now_s` CLOCK_MONOTONIC, `now_ns` real time."""

    asks: Asks
    aggregator: Aggregator
    wait_s: float
    _samples: list[Batch] = field(default_factory=list)
    _queue: deque[_Waiting] = field(default_factory=deque)
    _from_ns: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*COUNTED, "named_late"), 0))

    @property
    def waits(self) -> bool:
        """Whether anything does."""
        return bool(self._queue or self._samples)

    def keep(self, samples: Batch) -> Batch | None:
        """Takes rows with marks; gives back those that have none."""
        if not _marks_of(samples):
            return samples
        self._samples.append(samples)
        return None

    def end_interval(self, now_s: float, now_ns: int) -> None:
        """What was added since the last call is to be named."""
        part = self.aggregator.part()
        samples, self._samples = self._samples, []
        marks = marks_in(text for row in part.places for text in row)
        for each in samples:
            marks |= _marks_of(each)
        began_ns, self._from_ns = self._from_ns or now_ns, now_ns
        asked = self.asks.ask(marks, began_ns - LATE_NS, now_ns) if marks else None
        self._queue.append(_Waiting(part, samples, asked, now_s + self.wait_s))

    def ready(self, now_s: float) -> Iterator[Batch]:
        """Rows whose names are known, or that waited long enough; the oldest first."""
        while self._queue:
            first = self._queue[0]
            answers: Answers | None = {} if first.asked is None else first.asked.answers
            if answers is None and now_s < first.until_s:
                return
            self._queue.popleft()
            yield from self._named(first, answers or {})

    def _named(self, one: _Waiting, answers: Answers) -> Iterator[Batch]:
        hops = one.part.hops()
        for series, place in one.part.places.items():
            if any(map(is_mark, series)):
                self._count(named_series(series, answers), int(hops[place]))
        yield self.aggregator.named(one.part, lambda series: named_series(series, answers))
        yield from (named_samples(each, answers) for each in one.samples)

    def _count(self, series: Row, hops: int) -> None:
        row = dict(zip(SERIES, series, strict=True)) | {"src_pod": "", "dst_pod": ""}
        self.counts["named_late"] += hops
        for name in counted_as(tuple(row[column] for column in COLUMNS)):
            self.counts[name] += hops


def named_series(series: Row, answers: Answers) -> Row:
    """A series, in the order of SERIES, with names for its marks."""
    row = dict(zip(SERIES, series, strict=True))
    for namespace, _, workload in _ENDS:
        if is_mark(row[workload]):
            end = answers.get(row[workload], _UNKNOWN)
            row[namespace], row[workload] = row[namespace] or end.namespace, end.workload
    if is_mark(row[_SERVICE]):
        row[_SERVICE] = answers.get(row[_SERVICE], _UNKNOWN).workload
    return tuple(row.values())


def named_row(row: Row, known: Callable[[str], EndNames | None], other: Callable[[str], str]) -> Row:
    """A row, in the order of COLUMNS, with names for its marks; `other` says what stands for unknown ones."""
    found = dict(zip(COLUMNS, row, strict=True))
    for namespace, pod, workload in _ENDS:
        if is_mark(found[workload]):
            end = known(found[workload]) or EndNames("", "", other(found[workload]))
            found[namespace] = found[namespace] or end.namespace
            found[pod] = end.pod if is_mark(found[pod]) else found[pod] or end.pod
            found[workload] = end.workload
    if is_mark(found[_SERVICE]):
        end = known(found[_SERVICE]) or EndNames("", "", other(found[_SERVICE]))
        found[_SERVICE] = end.workload
    return tuple(found.values())


def named_samples(batch: Batch, answers: Answers) -> Batch:
    """Rows with names for their marks."""
    columns = dict(batch.columns)
    for namespace, pod, workload in _ENDS:
        texts = columns[workload]
        assert isinstance(texts, Labels)
        if not marks_in(texts.values):
            continue
        ends = [answers.get(text, _UNKNOWN) if is_mark(text) else None for text in texts.values]
        names = [text if end is None else end.workload for text, end in zip(texts.values, ends, strict=True)]
        columns[workload] = replace(texts, values=tuple(names))
        columns[namespace] = _filled(columns[namespace], texts, [end and end.namespace for end in ends])
        columns[pod] = _filled(columns[pod], texts, [end and end.pod for end in ends])
    service = columns[_SERVICE]
    assert isinstance(service, Labels)
    names = [answers.get(text, _UNKNOWN).workload if is_mark(text) else text for text in service.values]
    columns[_SERVICE] = replace(service, values=tuple(names))
    return Batch(batch.table, columns)


def _filled(column: object, marked: Labels, texts: list[str | None]) -> Labels:
    """Where the marked column has a mark and this one is empty, or a mark too, the text of the mark."""
    assert isinstance(column, Labels)
    rows = [
        texts[code] or "" if is_mark(found) or not found else found
        for found, code in zip(column.texts().tolist(), marked.codes.tolist(), strict=True)
    ]
    return Labels.of(rows)


def _marks_of(batch: Batch) -> set[str]:
    found: set[str] = set()
    for name in ("src_workload", "dst_workload", _SERVICE):
        column = batch.columns[name]
        if isinstance(column, Labels):
            found |= marks_in(column.values)
    return found
