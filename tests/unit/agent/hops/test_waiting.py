# SPDX-License-Identifier: Apache-2.0
"""An intake that asks for names: rows wait, each record is in one row, and nothing is named wrongly."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from agent.hops.intake import WAIT_S, Intake
from agent.naming.names import EndNames
from bpf.record import Kind
from store.batch import Batch, Labels
from store.schema import HOP_1M, HOP_10S, HOP_SAMPLE
from tests.unit.agent.hops.test_intake import CLOCK, LINKS, PLAN
from tests.unit.agent.made_records import SECOND_NS, made


@dataclass(slots=True)
class Ticket:
    marks: frozenset[str]
    from_ns: int
    until_ns: int
    answers: Mapping[str, EndNames] | None = None


@dataclass(slots=True)
class Oracle:
    """Answers when the test says so."""

    tickets: list[Ticket] = field(default_factory=list)

    def ask(self, marks: Iterable[str], from_ns: int, until_ns: int) -> Ticket:
        self.tickets.append(Ticket(frozenset(marks), from_ns, until_ns))
        return self.tickets[-1]

    def hurry(self) -> None:
        pass

    def latest(self, mark: str) -> EndNames | None:
        assert mark.startswith("?")
        return None


WEB = EndNames("shop", "web-7", "web")


def _intake() -> tuple[Intake, Oracle]:
    oracle = Oracle()
    one = Intake(asks=oracle)
    one.update(PLAN, LINKS, 0)
    return one, oracle


def _texts(batch: Batch, column: str) -> list[str]:
    labels = batch.columns[column]
    assert isinstance(labels, Labels)
    return list(labels.texts())


def _count(batch: Batch) -> int:
    return int(np.asarray(batch.columns["count"]).sum())


def test_rows_with_marks_wait_until_they_are_answered() -> None:
    one, oracle = _intake()
    one.add(made(Kind.TX, first_ifindex=11, at_ns=SECOND_NS))
    assert [len(each) for each in one.samples(CLOCK, "boot", 2 * SECOND_NS) if len(each)] == []
    assert one.summaries(HOP_10S, CLOCK, 10 * SECOND_NS) == []
    [ticket] = oracle.tickets
    assert all(mark.startswith("?") for mark in ticket.marks)
    assert one.samples(CLOCK, "boot", 11 * SECOND_NS)[0].table is HOP_SAMPLE

    ticket.answers = dict.fromkeys(ticket.marks, WEB)
    rows = [each for each in one.samples(CLOCK, "boot", 12 * SECOND_NS) if len(each)]
    [summary] = [each for each in rows if each.table is HOP_10S]
    [samples] = [each for each in rows if each.table is HOP_SAMPLE]
    assert _texts(summary, "dst_workload") == ["web"]
    assert _texts(summary, "dst_ns") == ["shop"]
    assert _texts(samples, "dst_pod") == ["web-7"] * len(samples)
    assert _count(summary) == len(samples)


def test_rows_that_nobody_answers_are_unknown_in_the_end_and_counted() -> None:
    one, oracle = _intake()
    one.add(made(Kind.TX, first_ifindex=11, at_ns=SECOND_NS))
    one.summaries(HOP_10S, CLOCK, 10 * SECOND_NS)
    late_ns = int((10 + WAIT_S) * SECOND_NS) + 1
    [summary] = [each for each in one.samples(CLOCK, "boot", late_ns) if each.table is HOP_10S]
    assert set(_texts(summary, "dst_workload")) == {"unknown"}
    assert oracle.tickets[0].answers is None
    counted = one.counters()
    assert counted["named_late"] == _count(summary)
    assert counted["unknown_destination"] == _count(summary)


def test_series_that_turn_out_to_be_one_are_one_row() -> None:
    one, oracle = _intake()
    one.add(made(Kind.TX, first_ifindex=11, at_ns=SECOND_NS))
    other = made(Kind.TX, dst="10.1.0.9", first_ifindex=11, at_ns=SECOND_NS)
    one.add(other)
    one.summaries(HOP_10S, CLOCK, 10 * SECOND_NS)
    [ticket] = oracle.tickets
    assert len([mark for mark in ticket.marks if mark.startswith("?a")]) >= 2
    ticket.answers = dict.fromkeys(ticket.marks, WEB)
    [summary] = [each for each in one.samples(CLOCK, "boot", 11 * SECOND_NS) if each.table is HOP_10S]
    assert len(summary) == 1
    assert _count(summary) == len(other) * 2


def test_every_record_is_in_every_table_at_the_end() -> None:
    one, _ = _intake()
    total = 0
    rows: list[Batch] = []
    for second in range(1, 31):
        records = made(Kind.TX, first_ifindex=11, at_ns=second * SECOND_NS)
        one.add(records)
        total += len(records)
        rows += one.samples(CLOCK, "boot", second * SECOND_NS)
        if second % 10 == 0:
            rows += one.summaries(HOP_10S, CLOCK, second * SECOND_NS)
    rows += one.last(wait_s=0)
    assert sum(_count(each) for each in rows if each.table is HOP_10S) == total
    assert sum(len(each) for each in rows if each.table is HOP_SAMPLE) == total
    [minute] = one.summaries(HOP_1M, CLOCK, 60 * SECOND_NS)
    assert _count(minute) == total
