# SPDX-License-Identifier: Apache-2.0
import numpy as np

from agent.clock import ClockOffset
from agent.hops.intake import GATHERED, Intake
from agent.network.links import Link
from agent.plan.model import parse_plan
from bpf.record import Kind
from store.batch import Batch, Labels
from store.schema import HOP_10M, HOP_10S, SUMMARIES, Table
from tests.unit.agent.made_records import SECOND_NS, made, traced

CLOCK = ClockOffset(0, 0, 0, 0, 0)
PLAN = parse_plan("nic: eth0\nvports: [{match: veth-web, namespace: shop, pod: web-1, workload: web}]")
LINKS = [Link(2, "eth0"), Link(11, "veth-web")]


def intake() -> Intake:
    found = Intake()
    found.update(PLAN, LINKS, 0)
    return found


def summary(one: Intake, table: Table) -> Batch:
    [batch] = one.summaries(table, CLOCK, 0)
    return batch


def hops(batch: Batch) -> int:
    count = batch.columns["count"]
    assert not isinstance(count, Labels)
    return int(count.sum())


def test_intake_gives_each_record_to_every_table() -> None:
    one = intake()
    for size in (1, 10, GATHERED, 3, 2 * GATHERED, 0):
        one.add(traced(size))
    total = 3 * GATHERED + 14
    assert [hops(summary(one, table)) for table in SUMMARIES] == [total] * 3
    one.samples(CLOCK, "boot", SECOND_NS)
    counted = one.counters()
    assert counted["samples"] + counted["samples_tail"] + counted["samples_not_kept"] == total


def test_intake_of_nothing_has_empty_batches() -> None:
    one = intake()
    [batch] = one.samples(CLOCK, "boot", SECOND_NS)
    assert len(batch) == 0
    assert [len(summary(one, table)) for table in SUMMARIES] == [0, 0, 0]


def test_intake_names_waiting_records_by_what_is_known_when_they_are_due() -> None:
    one = Intake()
    one.add(made(Kind.TX, first_ifindex=11, at_ns=SECOND_NS))
    one.update(PLAN, LINKS, 2 * SECOND_NS)
    [batch] = one.samples(CLOCK, "boot", 2 * SECOND_NS)
    pod = batch.columns["src_pod"]
    assert isinstance(pod, Labels)
    assert pod.texts().tolist() == ["web-1"]


def test_intake_has_every_counter_from_the_start() -> None:
    assert Intake().counters() == {
        "unknown_source": 0,
        "unknown_destination": 0,
        "unknown_service": 0,
        "ambiguous": 0,
        "flows_rebuilt": 0,
        "names_renumbered": 0,
        "series_other": 0,
        "series_other_1m": 0,
        "series_other_10m": 0,
        "samples": 0,
        "samples_tail": 0,
        "samples_not_kept": 0,
    }


def test_intake_survives_intervals_in_any_order() -> None:
    one = intake()
    found = 0
    for table in (HOP_10M, HOP_10S, HOP_10M, HOP_10S):
        one.add(np.concatenate([made(Kind.RX), made(Kind.TX)]))
        found += hops(summary(one, table)) if table is HOP_10S else 0
    assert found == 8
