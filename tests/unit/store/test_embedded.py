# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from store.embedded import EmbeddedStore
from store.query import Columns, Span, StoreError, TraceId, Where
from store.schema import EVENT, HOP_1M, HOP_10M, HOP_10S, HOP_SAMPLE, Table
from tests.unit.store.compactors import EVER, HOUR, NOON, S, Town
from tests.unit.store.hops import Row, batch

HOSTILE = "x' OR 1=1; --\x00\"\u202e$v0\n%_*[a]\\"
ANY = Where()


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path / "s")


@pytest.fixture(params=["segments", "parquet", "both"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(town: Town, form: str, table: Table, *rows: Row, node: str = "n1") -> None:
    """The rows, the first half of them in Parquet if the form is `both`."""
    middle = len(rows) // 2
    for part, is_compacted in ((rows[:middle], form != "segments"), (rows[middle:], form == "parquet")):
        if not part:
            continue
        with town.appender(node) as appender:
            town.now_ns += S
            appender.append(batch(table, *part))
        if is_compacted:
            town.compactor().round()


def sample(town: Town, where: Where = ANY, min_latency_ns: int = 0, limit: int = 10_000) -> list[int]:
    store = EmbeddedStore(town.path)
    try:
        found = store.samples(EVER, where, min_latency_ns, limit)["latency_ns"]
        assert store.problems == []
        return [int(each) for each in found]
    finally:
        store.close()


def texts(columns: Columns, name: str) -> list[str]:
    return [str(each) for each in columns[name]]


def test_store_without_directory_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=f"store {tmp_path / 'none'}: no store is here"):
        EmbeddedStore(tmp_path / "none")


def test_store_of_a_newer_version_is_refused_by_version(town: Town) -> None:
    town.append("a")
    (town.path / "version").write_text(json.dumps({"format": 7, "schema": 3}))
    with pytest.raises(
        StoreError, match="it has format 7, schema 3; this overhop knows up to format 1, schema 1"
    ):
        EmbeddedStore(town.path)


def test_empty_store_gives_empty_columns_of_their_types(town: Town) -> None:
    town.appender().close()
    store = EmbeddedStore(town.path)
    samples = store.samples(EVER, ANY)
    assert list(samples) == [column.name for column in HOP_SAMPLE.columns]
    assert {len(column) for column in samples.values()} == {0}
    assert samples["latency_ns"].dtype == np.uint32
    assert samples["node"].dtype == object
    assert len(store.summaries(Span(0, 60 * S), ANY)["q79"]) == 0
    assert len(store.events(EVER)["what"]) == 0
    assert len(store.trace(TraceId(1, 2))["span"]) == 0
    assert store.nodes() == {}
    store.close()


def test_columns_come_back_as_they_were_written(town: Town, form: str) -> None:
    rows: list[Row] = [
        {
            "trace_hi": 2**64 - 1,
            "trace_lo": 2**63 + number,
            "latency_ns": 2**32 - 1 - number,
            "src_pod": HOSTILE,
            "dst_pod": "",
            "sport": 65535,
            "at_ns": -5,
            "tail": 1,
        }
        for number in range(4)
    ]
    fill(town, form, HOP_SAMPLE, *rows)
    store = EmbeddedStore(town.path)
    found = store.samples(EVER, ANY)
    assert {name: column.dtype.str.lstrip("<|") for name, column in found.items()} == {
        column.name: "O" if column.dtype == "str" else column.dtype for column in HOP_SAMPLE.columns
    }
    assert found["trace_hi"].tolist() == [2**64 - 1] * 4
    assert found["trace_lo"].tolist() == [2**63 + number for number in range(4)]
    assert found["latency_ns"].tolist() == [4294967295, 4294967294, 4294967293, 4294967292]
    assert found["src_pod"].tolist() == [HOSTILE] * 4
    assert found["dst_pod"].tolist() == [""] * 4
    assert found["at_ns"].tolist() == [-5] * 4
    assert found["node"].tolist() == ["n1"] * 4
    assert found["cluster"].tolist() == ["c"] * 4
    store.close()


def test_samples_are_the_slowest_first_and_limited(town: Town, form: str) -> None:
    fill(town, form, HOP_SAMPLE, *({"latency_ns": latency} for latency in (5, 9, 7, 9, 1, 8, 2, 6)))
    assert sample(town) == [9, 9, 8, 7, 6, 5, 2, 1]
    assert sample(town, limit=3) == [9, 9, 8]
    assert sample(town, min_latency_ns=7) == [9, 9, 8, 7]
    assert sample(town, min_latency_ns=10**12) == []
    assert sample(town, limit=0) == []


def test_samples_of_two_nodes_and_more_than_the_limit_in_segments(town: Town) -> None:
    for node in ("n1", "n2"):
        rows = [{"latency_ns": latency} for latency in range(50)]
        fill(town, "segments", HOP_SAMPLE, *rows[:25], node=node)
        fill(town, "segments", HOP_SAMPLE, *rows[25:], node=node)
    assert sample(town, limit=5) == [49, 49, 48, 48, 47]


def test_samples_filters(town: Town, form: str) -> None:
    rows: list[Row] = [
        {
            "latency_ns": 1,
            "kind": "rx",
            "src_ns": "shop",
            "src_workload": "web",
            "dst_ns": "bank",
            "dst_workload": "db",
        },
        {
            "latency_ns": 2,
            "kind": "tx",
            "src_ns": "bank",
            "src_workload": "web",
            "dst_ns": "shop",
            "dst_workload": "db",
        },
        {"latency_ns": 3, "kind": "rx", "src_ns": HOSTILE, "src_workload": HOSTILE},
    ]
    fill(town, form, HOP_SAMPLE, *rows)
    fill(town, form, HOP_SAMPLE, {"latency_ns": 4, "kind": "rx"}, node="n/2")
    assert sample(town, Where(namespace="shop")) == [2, 1]
    assert sample(town, Where(workload="web")) == [2, 1]
    assert sample(town, Where(namespace="shop", workload="web")) == [1]
    assert sample(town, Where(namespace="shop", workload="web", kind="tx")) == []
    assert sample(town, Where(kind="rx")) == [4, 3, 1]
    assert sample(town, Where(node="n/2")) == [4]
    assert sample(town, Where(node="n1", kind="tx")) == [2]
    assert sample(town, Where(namespace=HOSTILE, workload=HOSTILE)) == [3]
    assert sample(town, Where(namespace="' OR 1=1 --")) == []
    assert sample(town, Where(node="../event/n1")) == []


def test_samples_of_a_span_only(town: Town, form: str) -> None:
    fill(town, form, HOP_SAMPLE, {"latency_ns": 1}, {"latency_ns": 2})
    first = NOON + S
    store = EmbeddedStore(town.path)
    times = [int(each) for each in store.samples(EVER, ANY)["time"]]
    assert min(times) == first
    assert len(store.samples(Span(first, first), ANY)["time"]) == 0
    assert store.samples(Span(first, first + 1), ANY)["latency_ns"].tolist() == [1]
    assert len(store.samples(Span(first + 10 * HOUR, first + 11 * HOUR), ANY)["time"]) == 0
    store.close()


def test_samples_of_chosen_columns(town: Town, form: str) -> None:
    fill(town, form, HOP_SAMPLE, {"latency_ns": 1, "kind": "rx"}, {"latency_ns": 2, "kind": "tx"})
    store = EmbeddedStore(town.path)
    found = store.samples(EVER, ANY, columns=("kind",))
    assert {name: column.tolist() for name, column in found.items()} == {"kind": ["tx", "rx"]}
    store.close()


def test_trace_is_all_samples_of_the_id_in_order_of_time(town: Town, form: str) -> None:
    fill(
        town,
        form,
        HOP_SAMPLE,
        {"trace_hi": 1, "trace_lo": 2**64 - 1, "seq": 1},
        {"trace_hi": 2, "trace_lo": 2**64 - 1},
    )
    fill(town, form, HOP_SAMPLE, {"trace_hi": 1, "trace_lo": 2**64 - 1, "seq": 2}, node="n2")
    fill(town, form, HOP_SAMPLE, {"trace_hi": 1, "trace_lo": 2**64 - 1, "seq": 3})
    store = EmbeddedStore(town.path)
    found = store.trace(TraceId(1, 2**64 - 1))
    assert found["seq"].tolist() == [1, 2, 3]
    assert texts(found, "node") == ["n1", "n2", "n1"]
    assert len(store.trace(TraceId(1, 1))["seq"]) == 0
    store.close()


def test_trace_is_there_as_soon_as_it_was_appended(town: Town) -> None:
    with town.appender() as appender:
        store = EmbeddedStore(town.path)
        for number in range(3):
            appender.append(batch(HOP_SAMPLE, {"trace_hi": 1, "trace_lo": number}))
            assert len(store.trace(TraceId(1, number))["time"]) == 1
        store.close()


def test_new_store_is_read_without_duckdb(town: Town) -> None:
    town.append("a")
    code = (
        "import sys; from pathlib import Path; from store.embedded import EmbeddedStore; "
        "from store.query import Span; store = EmbeddedStore(Path(sys.argv[1])); "
        "print(len(store.events(Span(0, 1 << 62))['what']), 'duckdb' in sys.modules)"
    )
    root = Path(__file__).parents[3]
    said = subprocess.run(
        [sys.executable, "-c", code, str(town.path)], cwd=root, capture_output=True, text=True, check=True
    )
    assert said.stdout == "1 False\n"


def test_nodes_first_last_and_the_last_shift(town: Town, form: str) -> None:
    fill(town, form, HOP_SAMPLE, {"kept_shift": 1}, {"kept_shift": 3})
    fill(town, form, HOP_SAMPLE, {"kept_shift": 0}, node="knoten/ü")
    store = EmbeddedStore(town.path)
    assert store.nodes() == {
        "n1": {"first_ns": NOON + S, "last_ns": NOON + 2 * S, "kept_shift": 3},
        "knoten/ü": {"first_ns": NOON + 3 * S, "last_ns": NOON + 3 * S, "kept_shift": 0},
    }
    store.close()


def test_store_whose_path_looks_like_a_pattern(tmp_path: Path) -> None:
    town = Town(tmp_path / "a[b]*?{c}'\"")
    town.append("a")
    town.compactor().round()
    assert town.details() == ["a"]


# ---- what cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 3, 500])
def test_unreadable_parquet_is_named_and_the_rest_answered(town: Town, keep: int) -> None:
    for detail in ("a", "b"):
        town.append(detail)
        for _ in range(3):
            town.compactor().round()
            town.now_ns += 31 * S
    for name in ("00000001.seg", "00000002.seg"):
        (town.path / "event/n1" / name).unlink(missing_ok=True)
    os.truncate(town.path / "event/n1/00000001-00000001.parquet", keep)
    store = EmbeddedStore(town.path)
    assert texts(store.events(EVER), "detail") == ["b"]
    assert texts(store.events(EVER), "detail") == ["b"]
    assert len(store.problems) == 1
    assert store.problems[0].startswith(f"{town.path / 'event/n1/00000001-00000001.parquet'}: ")
    store.close()


def test_damaged_segment_is_named_and_the_rest_answered(town: Town) -> None:
    town.append("a")
    town.append("b")
    (town.path / "event/n1/00000001.seg").write_bytes(b"nothing of ours" * 20)
    store = EmbeddedStore(town.path)
    assert texts(store.events(EVER), "detail") == ["b"]
    assert store.problems == [
        f"{town.path / 'event/n1/00000001.seg'}: 300 bytes from 0 on: no header of a segment"
    ]
    store.close()


@pytest.mark.parametrize("kept_bytes", [0, 10, 40])
def test_segment_that_ends_within_its_header_is_named(town: Town, kept_bytes: int) -> None:
    town.append("a")
    town.append("b")
    segment = town.path / "event/n1/00000001.seg"
    segment.write_bytes(segment.read_bytes()[:kept_bytes])
    store = EmbeddedStore(town.path)
    assert texts(store.events(EVER), "detail") == ["b"]
    assert store.problems == [f"{segment}: ends within its header, rows of it are missing"]
    store.close()


def test_segment_that_is_a_fifo_is_named_and_not_waited_for(town: Town) -> None:
    town.append("a")
    fifo = town.path / "event/n1/00000009.seg"
    os.mkfifo(fifo)
    store = EmbeddedStore(town.path)
    assert texts(store.events(EVER), "detail") == ["a"]
    assert store.problems == [f"segment {fifo}: is no file: who put it into the store?"]
    store.close()


def test_file_that_was_set_aside_is_named(town: Town) -> None:
    town.append("a")
    (town.path / "event/n1/00000009.seg.bad").write_bytes(b"x")
    store = EmbeddedStore(town.path)
    assert texts(store.events(EVER), "detail") == ["a"]
    assert store.problems == [
        f"{town.path / 'event/n1/00000009.seg.bad'}: set aside by the writer, rows of it are missing"
    ]
    store.close()


def test_unknown_table_is_refused(town: Town) -> None:
    town.append("a")
    store = EmbeddedStore(town.path)
    with pytest.raises(StoreError, match="hop_2h: no table of the store"):
        store.summaries(EVER, ANY, "hop_2h")


# ---- summaries of several tables -------------------------------------------------------------------


def write_flush(town: Town, at_s: float, node: str = "n1", **counts: int) -> None:
    """One row of each given table, `hop_1m=5` for 5 hops, in this order, at that second after noon."""
    tables = {"hop_10s": HOP_10S, "hop_1m": HOP_1M, "hop_10m": HOP_10M}
    town.now_ns = NOON + round(at_s * S)
    with town.appender(node) as appender:
        for name, count in counts.items():
            appender.append(batch(tables[name], {"count": count, "kind": "rx"}))


def counted(
    town: Town, since_s: float, until_s: float, where: Where = ANY, points: int = 60
) -> list[tuple[float, int]]:
    """Seconds after noon and count of the rows of the combined tables."""
    store = EmbeddedStore(town.path)
    span = Span(NOON + round(since_s * S), NOON + round(until_s * S))
    found = store.summaries(span, where, points=points)
    store.close()
    seconds = [round((int(each) - NOON) / S) for each in found["time"]]
    return list(zip(seconds, [int(each) for each in found["count"]], strict=True))


def test_summaries_of_a_short_span_are_of_10_s(town: Town) -> None:
    write_flush(town, 10, hop_10s=1)
    write_flush(town, 60, hop_10s=2, hop_1m=3)
    assert counted(town, 0, 600) == [(10, 1), (60, 2)]


def test_summaries_of_one_second_are_the_rows_of_that_second(town: Town) -> None:
    write_flush(town, 10, hop_10s=1)
    write_flush(town, 13, hop_10s=2)
    assert counted(town, 12.5, 13.5) == [(13, 2)]


@pytest.mark.parametrize("is_finer_first", [True, False])
def test_summaries_of_an_hour_are_of_1_min_and_the_last_seconds_of_10_s(
    town: Town, form: str, is_finer_first: bool
) -> None:
    for second in range(10, 151, 10):
        tables = {"hop_10s": 1, "hop_1m": 6} if second % 60 == 0 else {"hop_10s": 1}
        ordered = dict(sorted(tables.items(), reverse=not is_finer_first))
        write_flush(town, second, "n1", **ordered)
        if form == "parquet" or (form == "both" and second == 60):
            town.compactor().round()
    assert counted(town, -3450, 151) == [(60, 6), (120, 6), (130, 1), (140, 1), (150, 1)]


def test_summaries_late_by_seconds_are_counted_once(town: Town) -> None:
    write_flush(town, 10.1, hop_10s=1)
    write_flush(town, 61.5, hop_1m=2, hop_10s=1)
    write_flush(town, 70.2, hop_10s=1)
    assert counted(town, -3500, 110) == [(62, 2), (70, 1)]


def test_summaries_of_a_killed_agent_fill_the_hole(town: Town) -> None:
    """Killed at 45 s, started again at 52: the row of the minute sums up 8 s of it."""
    for second in (10, 20, 30, 40):
        write_flush(town, second, hop_10s=1)
    town.now_ns = NOON + 50 * S
    with town.appender() as appender:
        appender.append(batch(EVENT, {"what": "agent", "state": "started", "since": NOON + 52 * S}))
    write_flush(town, 60, hop_10s=7, hop_1m=7)
    assert counted(town, -3500, 101) == [(10, 1), (20, 1), (30, 1), (40, 1), (60, 7)]


def test_summaries_of_a_node_without_coarse_rows_are_of_the_finer(town: Town) -> None:
    write_flush(town, 10, "n2", hop_10s=5)
    write_flush(town, 60, "n1", hop_10s=2, hop_1m=3)
    assert counted(town, -3500, 101) == [(10, 5), (60, 3)]
    assert counted(town, -3500, 101, Where(node="n2")) == [(10, 5)]


def test_summaries_of_a_day_are_of_all_three_tables(town: Town) -> None:
    write_flush(town, 600, hop_10s=1, hop_1m=6, hop_10m=60)
    write_flush(town, 660, hop_10s=1, hop_1m=6)
    write_flush(town, 670, hop_10s=1)
    assert counted(town, -86_000, 700) == [(600, 60), (660, 6), (670, 1)]


def test_summaries_begin_with_finer_rows_where_a_coarse_one_begins_long_before(town: Town) -> None:
    for second in range(10, 601, 10):
        tables = {"hop_10s": 1} | ({"hop_1m": 6} if second % 60 == 0 else {})
        tables |= {"hop_10m": 60} if second % 600 == 0 else {}
        write_flush(town, second, "n1", **tables)
    minutes = [(second, 6) for second in range(180, 601, 60)]
    assert counted(town, 95, 1595, points=1) == [(100, 1), (110, 1), (120, 1), *minutes]
    assert counted(town, 80, 1580, points=1) == [(120, 6), *minutes], "less than 25 s before"
    assert counted(town, 80, 3680) == [(120, 6), *minutes], "less than a minute before"


def test_summaries_begin_with_a_coarse_row_of_before_where_no_finer_one_is(town: Town) -> None:
    write_flush(town, 600, hop_10m=60)
    write_flush(town, 1200, hop_1m=6, hop_10m=59)
    assert counted(town, 300, 1500, points=1) == [(600, 60), (1200, 59)]
    write_flush(town, 600, "n2", hop_10m=60, hop_1m=6)
    assert counted(town, 580, 1800, Where(node="n2"), points=1) == [(600, 6)]


def test_summaries_of_one_point_are_few(town: Town) -> None:
    for second in range(10, 1801, 10):
        tables = {"hop_10s": 1} | ({"hop_1m": 6} if second % 60 == 0 else {})
        tables |= {"hop_10m": 60} if second % 600 == 0 else {}
        write_flush(town, second, "n1", **tables)
    store = EmbeddedStore(town.path)
    span = Span(NOON + 470 * S, NOON + 1271 * S)
    found = store.summaries(span, ANY, columns=("time", "count"), points=1)
    store.close()
    seconds = [(int(each) - NOON) // S for each in found["time"]]
    assert seconds == [470, 480, 540, 600, 1200, 1260, 1270]
    assert int(found["count"].sum()) == 81


def test_summaries_of_one_table_are_its_rows(town: Town) -> None:
    write_flush(town, 60, hop_10s=1, hop_1m=6)
    store = EmbeddedStore(town.path)
    assert store.summaries(EVER, ANY, "hop_10s")["count"].tolist() == [1]
    assert store.summaries(EVER, ANY, "hop_10m")["count"].tolist() == []
    assert list(store.summaries(EVER, ANY, "hop_1m", columns=("count", "hist"))) == ["count", "hist"]
    store.close()


def test_files_that_go_while_they_are_read_are_listed_again(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.append("a")
    town.append("b")
    store = EmbeddedStore(town.path)
    real = os.listdir
    done: list[Path] = []

    def compact_behind(path: Path) -> list[str]:
        names = real(path)
        if str(path).endswith("n1") and not done:
            done.append(path)
            for _ in range(3):
                town.compactor().round()
            for name in ("00000001.seg", "00000002.seg"):
                (town.path / "event/n1" / name).unlink()
        return names

    monkeypatch.setattr(os, "listdir", compact_behind)
    assert texts(store.events(EVER), "detail") == ["a", "b"]
    assert store.problems == []
    store.close()


def test_events_are_in_order_of_time_over_nodes(town: Town) -> None:
    town.append("a", node="n2")
    town.append("b", node="n1")
    town.append("c", node="n2")
    assert town.details() == ["a", "b", "c"]
    town.append("d", "e")
    assert town.details() == ["a", "b", "c", "d", "e"]
