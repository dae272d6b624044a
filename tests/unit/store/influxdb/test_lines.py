# SPDX-License-Identifier: Apache-2.0
"""Rows as line protocol, to the letter."""

import numpy as np

from store.batch import Batch, Labels, Numbers
from store.influxdb.lines import lines_of, part_of
from store.influxdb.target import Target, parse_target
from store.schema import EVENT, HOP_1M, HOP_10S, HOP_SAMPLE
from tests.unit.store.hops import batch

INFLUX2 = parse_target("influxdb2://h/")
INFLUX1 = parse_target("influxdb1://h/")
VICTORIA = parse_target("victoriametrics://h/")
SERIES: dict[str, int | str] = {
    "kind": "rx",
    "message": "request",
    "src_ns": "shop",
    "src_workload": "web",
    "dst_workload": "host",
    "encap": "vxlan",
    "context": "w3c",
}


def lines(target: Target, rows: Batch, first_ns: int = 1000) -> list[str]:
    count = len(rows)
    columns: dict[str, Numbers | Labels] = {
        "time": np.arange(first_ns, first_ns + count, dtype=np.int64),
        "cluster": Labels.same("c1", count),
        "node": Labels.same("n1", count),
    }
    return [line.decode() for line in lines_of(target, rows.table, {**columns, **rows.columns})]


def test_lines_of_a_summary_has_tags_that_are_not_empty_and_quarters_that_are_not_zero() -> None:
    row: dict[str, int | str] = SERIES | {
        "count": 3,
        "sum_ns": 60_000,
        "min_ns": 9000,
        "max_ns": 30_000,
        "q12": 2,
        "q19": 1,
    }
    row |= {
        "p50_ns": 20_000,
        "p90_ns": 30_000,
        "p95_ns": 30_000,
        "p99_ns": 30_000,
        "p999_ns": 30_000,
        "hist": "AQI",
    }
    assert lines(INFLUX2, batch(HOP_1M, row)) == [
        "hop,cluster=c1,node=n1,kind=rx,message=request,src_ns=shop,src_workload=web,dst_workload=host,"
        "encap=vxlan,context=w3c count=3i,retransmitted=0i,sum_ns=60000i,min_ns=9000i,max_ns=30000i,"
        'p50_ns=20000i,p90_ns=30000i,p95_ns=30000i,p99_ns=30000i,p999_ns=30000i,q12=2i,q19=1i,hist="AQI" 1000'
    ]


def test_lines_of_rows_keep_their_order_and_their_own_quarters() -> None:
    rows = batch(
        HOP_10S,
        SERIES | {"count": 1, "q00": 1},
        SERIES | {"retransmitted": 2},
        SERIES | {"count": 5, "q79": 5},
    )
    found = lines(INFLUX1, rows)
    assert [line.rpartition(" ")[2] for line in found] == ["1000", "1001", "1002"]
    assert [("q00=1i" in line, "q79=5i" in line) for line in found] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    assert "count=0i,retransmitted=2i" in found[1]
    assert "hist" not in found[1]


def test_lines_of_victoriametrics_have_no_texts_and_a_measurement_of_their_own() -> None:
    [line] = lines(VICTORIA, batch(HOP_10S, SERIES | {"count": 1, "q00": 1, "hist": "AAE"}))
    assert line.startswith("hop_10s,cluster=c1,")
    assert "hist" not in line


def test_lines_of_a_sample_have_ids_in_hexadecimal_and_addresses_as_text() -> None:
    row: dict[str, int | str] = {
        "kind": "tx",
        "src_pod": "web-1",
        "trace_hi": 0x4BF92F3577B34DA6,
        "trace_lo": 0xA3CE929D0E0E4736,
        "span": 0xF0F067AA0BA902B7,
        "src_lo": 0xFFFF_0A01_0007,
        "dst_hi": 0xFD00_0000_0000_0000,
        "dst_lo": 9,
        "sport": 40_000,
        "latency_ns": 8500,
        "at_ns": 999,
    }
    assert lines(INFLUX2, batch(HOP_SAMPLE, row)) == [
        'hop_sample,cluster=c1,node=n1,part=24 kind="tx",src_ns="",src_pod="web-1",src_workload="",'
        'dst_ns="",dst_workload="",'
        'trace_id="4bf92f3577b34da6a3ce929d0e0e4736",span_id="f0f067aa0ba902b7",src="10.1.0.7",dst="fd00::9",at_ns=999i,sport=40000i,latency_ns=8500i,'
        "kept_shift=0i 1000"
    ]


def test_lines_of_samples_leave_out_only_what_is_empty_in_all_of_them() -> None:
    first, second = lines(INFLUX2, batch(HOP_SAMPLE, {"vni": 7}, {"src_pod": "a"}))
    assert "vni=7i" in first
    assert "vni=0i" in second
    assert 'src_pod=""' in first
    assert "dst_pod" not in first + second


def test_lines_of_an_event() -> None:
    row: dict[str, int | str] = {
        "what": "agent",
        "state": "started",
        "detail": 'says "no"\nand \\',
        "since": -1,
    }
    assert lines(INFLUX2, batch(EVENT, row)) == [
        'event,cluster=c1,node=n1,what=agent state="started",detail="says \\"no\\"\nand \\\\",since=-1i 1000'
    ]


def test_lines_of_hostile_tags_cannot_leave_their_place() -> None:
    [line] = lines(INFLUX2, batch(EVENT, {"what": "a b,c=d\\\ne", "state": "x"}))
    assert line == 'event,cluster=c1,node=n1,what=a\\ b\\,c\\=d\u29f5\u240ae state="x" 1000'


def test_lines_of_numbers_beyond_int64_are_its_greatest() -> None:
    [line] = lines(INFLUX2, batch(HOP_10S, SERIES | {"count": 1, "sum_ns": 1 << 63}))
    assert "sum_ns=9223372036854775807i" in line


def test_lines_of_nothing_are_none() -> None:
    assert lines(INFLUX2, batch(EVENT)) == []


def test_part_of_a_trace_is_the_upper_six_bits_of_its_hash() -> None:
    high = np.array([0, 0x4BF92F3577B34DA6], np.uint64)
    low = np.array([1, 0xA3CE929D0E0E4736], np.uint64)
    assert part_of(high, low).tolist() == [48, 36]
