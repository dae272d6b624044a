# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from agent.hops.totals import HopTotals
from agent.naming.names import Names
from bpf.record import RECORD


def row(
    kind: str = "rx",
    source: tuple[str, str] = ("shop", "web"),
    destination: tuple[str, str] = ("", "external"),
    encap: str = "vxlan",
    context: str = "w3c",
) -> tuple[str, ...]:
    """One text per column of agent.names.COLUMNS."""
    return (
        kind,
        "request",
        source[0],
        "a-pod",
        source[1],
        destination[0],
        "",
        destination[1],
        "",
        encap,
        context,
    )


def records(*latencies_ns: int, again: tuple[int, ...] = ()) -> np.ndarray:
    made = np.zeros(len(latencies_ns), RECORD)
    made["latency_ns"] = latencies_ns
    made["quality"][list(again)] = 1
    return made


def add(totals: HopTotals, names: Names, rows: list[tuple[str, ...]], made: np.ndarray) -> None:
    totals.add(made, np.array([names.code(one) for one in rows], np.intp), names)


@pytest.mark.parametrize(
    ("latency_ns", "bucket"),
    [
        (0, 0), (999, 0), (1_000, 0), (1_001, 1), (2_000, 1), (2_001, 2), (15_000, 4), (15_001, 5),
        (100_000_000, 19), (100_000_001, 20), (2_000_000_000, 20),
    ],
)  # fmt: skip
def test_add_a_latency_equal_to_a_border_is_below_it(latency_ns: int, bucket: int) -> None:
    totals = HopTotals()
    add(totals, Names(), [row()], records(latency_ns))
    (counts,) = totals.facts().buckets.tolist()
    assert counts == [0] * bucket + [1] + [0] * (20 - bucket)
    assert totals.facts().sum_ns.tolist() == [latency_ns]


def test_add_tells_kinds_and_workloads_apart_and_no_pods() -> None:
    totals, names = HopTotals(), Names()
    rows = [row(), row("tx"), row(destination=("shop", "db")), row(source=("", "web")), row(encap="none")]
    add(totals, names, rows, records(1, 2, 3, 4, 5))
    facts = totals.facts()
    assert facts.series == (
        ("rx", "shop/web", "external"),
        ("tx", "shop/web", "external"),
        ("rx", "shop/web", "shop/db"),
        ("rx", "web", "external"),
    )
    assert facts.sum_ns.tolist() == [6, 2, 3, 4]
    assert facts.hops == {("rx", "vxlan", "w3c"): 3, ("tx", "vxlan", "w3c"): 1, ("rx", "none", "w3c"): 1}
    assert facts.retransmitted == dict.fromkeys(facts.hops, 0)


def test_add_of_retransmitted_hops_counts_them_apart() -> None:
    totals = HopTotals()
    add(totals, Names(), [row()] * 3, records(1_000, 5_000, 9_000, again=(0, 2)))
    facts = totals.facts()
    assert (facts.buckets.sum(), facts.sum_ns.tolist()) == (1, [5_000])
    assert facts.hops == {("rx", "vxlan", "w3c"): 3}
    assert facts.retransmitted == {("rx", "vxlan", "w3c"): 2}


def test_add_after_names_were_numbered_anew_goes_on() -> None:
    totals = HopTotals()
    add(totals, Names(), [row("tx"), row()], records(1, 10))
    add(totals, Names(), [row(), row("local")], records(100, 1000))
    facts = totals.facts()
    assert [series[0] for series in facts.series] == ["tx", "rx", "local"]
    assert facts.sum_ns.tolist() == [1, 110, 1000]
    assert list(facts.hops.values()) == [1, 2, 1]


def test_add_beyond_two_hundred_pairs_is_other_of_its_kind() -> None:
    totals, names = HopTotals(), Names()
    rows = [row(source=("", f"w{number}")) for number in range(205)]
    add(totals, names, rows, records(*[1] * 205))
    add(totals, names, [row("tx", ("", "w204")), row("tx", ("", "w199"))], records(1, 1))
    facts = totals.facts()
    assert len(facts.series) == 203
    counts = dict(zip(facts.series, facts.buckets.sum(axis=1).tolist(), strict=True))
    assert counts["rx", "other", "other"] == 5
    assert counts["tx", "other", "other"] == 1
    assert counts["tx", "w199", "external"] == 1
    assert sum(counts.values()) == 207


def test_facts_stay_as_they_were() -> None:
    totals, names = HopTotals(), Names()
    add(totals, names, [row()], records(1))
    before = totals.facts()
    add(totals, names, [row()], records(1))
    assert (before.buckets.sum(), before.sum_ns.sum(), sum(before.hops.values())) == (1, 1, 1)


def test_facts_of_nothing_are_empty() -> None:
    facts = HopTotals().facts()
    assert (facts.series, facts.buckets.shape, facts.hops) == ((), (0, 21), {})
