# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from store.embedded import EmbeddedStore
from store.hist_text import encode
from store.histogram import BUCKETS
from store.quarters import QUARTERS, Steps, sums_of, sums_of_parts
from store.query import Columns, Span, StoreError, Where
from store.schema import HOP_1M, HOP_10M
from tests.unit.store.compactors import EVER, HOUR, NOON, S, Town
from tests.unit.store.hops import Row, batch

ANY = Where()
NAMES = ["time", "count", "retransmitted", "sum_ns", *QUARTERS, "min_ns", "max_ns"]
ROWS: list[tuple[int, str, Row]] = [
    (60, "n1", {"kind": "rx", "count": 3, "sum_ns": 60, "min_ns": 10, "max_ns": 30, "q00": 2, "q79": 1}),
    (60, "n2", {"kind": "rx", "count": 1, "sum_ns": 7, "min_ns": 7, "max_ns": 7, "q00": 1}),
    (119, "n1", {"kind": "rx", "retransmitted": 4}),
    (120, "n1", {"kind": "tx", "count": 2**40, "sum_ns": 2**62, "min_ns": 1, "max_ns": 2**32 - 1, "q01": 2}),
    (180, "n1", {"kind": "tx", "retransmitted": 1, "dst_workload": "it's"}),
]


@pytest.fixture(params=["segments", "parquet", "both"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedStore]:
    """Rows of four minutes; of `both` the first three are in Parquet."""
    town = Town(tmp_path / "s")
    for number, (second, node, row) in enumerate(ROWS):
        town.now_ns = NOON + second * S
        with town.appender(node) as appender:
            appender.append(batch(HOP_1M, row))
        if request.param == "parquet" or (request.param == "both" and number < 3):
            town.compactor().round()
    opened = EmbeddedStore(town.path)
    yield opened
    assert opened.problems == []
    opened.close()


def values(columns: Columns, *names: str) -> list[tuple[object, ...]]:
    return list(zip(*(columns[name].tolist() for name in names), strict=True))


def test_quarters_of_everything_are_one_row_at_the_begin_of_the_span(store: EmbeddedStore) -> None:
    found = store.quarters(Span(NOON + 1, NOON + HOUR), ANY, table="hop_1m")
    assert list(found) == NAMES
    assert values(
        found, "time", "count", "retransmitted", "sum_ns", "min_ns", "max_ns", "q00", "q01", "q79"
    ) == [(NOON + 1, 2**40 + 4, 5, 2**62 + 67, 1, 2**32 - 1, 3, 2, 1)]


def test_quarters_have_the_types_of_sums(store: EmbeddedStore) -> None:
    found = store.quarters(EVER, ANY, ("node",), 60, "hop_1m")
    assert {name: column.dtype.str.lstrip("<|") for name, column in found.items()} == {
        "node": "O",
        "time": "i8",
        **dict.fromkeys(("count", "retransmitted", "sum_ns", *QUARTERS), "u8"),
        "min_ns": "u4",
        "max_ns": "u4",
    }


def test_quarters_by_labels_and_steps_are_in_order_of_time_then_labels(store: EmbeddedStore) -> None:
    found = store.quarters(EVER, ANY, ("node", "kind"), 60, "hop_1m")
    assert values(found, "time", "node", "kind", "count", "retransmitted") == [
        (NOON + 60 * S, "n1", "rx", 3, 4),
        (NOON + 60 * S, "n2", "rx", 1, 0),
        (NOON + 120 * S, "n1", "tx", 2**40, 0),
        (NOON + 180 * S, "n1", "tx", 0, 1),
    ]


def test_quarters_least_and_greatest_are_of_rows_that_count_hops(store: EmbeddedStore) -> None:
    found = store.quarters(EVER, ANY, ("dst_workload",), None, "hop_1m")
    assert values(found, "dst_workload", "count", "min_ns", "max_ns") == [
        ("", 2**40 + 4, 1, 2**32 - 1),
        ("it's", 0, 0, 0),
    ]


def test_quarters_steps_are_since_1970_whatever_the_span(store: EmbeddedStore) -> None:
    span = Span(NOON + 61 * S, NOON + 121 * S)
    found = store.quarters(span, ANY, (), 7, "hop_1m")
    assert NOON == 1_699_963_200 * S
    assert values(found, "time", "count") == [(1_699_963_314 * S, 2**40)]
    assert found["retransmitted"].tolist() == [4]


def test_quarters_filters(store: EmbeddedStore) -> None:
    for where, count in (
        (Where(node="n2"), [1]),
        (Where(kind="rx"), [4]),
        (Where(workload="it's"), [0]),
        (Where(node="nobody"), []),
    ):
        assert store.quarters(EVER, where, (), None, "hop_1m")["count"].tolist() == count


def test_quarters_without_rows_have_length_0(store: EmbeddedStore) -> None:
    for table in (HOP_1M, HOP_10M):
        found = store.quarters(Span(0, 1), ANY, ("node",), 10, table.name)
        assert list(found) == ["node", *NAMES]
        assert {len(column) for column in found.values()} == {0}


def test_quarters_by_default_are_of_the_coarsest_table_with_60_points(store: EmbeddedStore) -> None:
    assert store.quarters(Span(NOON, NOON + HOUR), ANY)["count"].tolist() == [2**40 + 4]
    assert store.quarters(Span(NOON, NOON + HOUR - 1), ANY)["count"].tolist() == []


def test_quarters_of_an_unknown_table_say_so(store: EmbeddedStore) -> None:
    with pytest.raises(StoreError, match="hop_5m: no table of the store"):
        store.quarters(EVER, ANY, table="hop_5m")


def test_quarters_of_a_damaged_file_are_of_the_others(tmp_path: Path) -> None:
    town = Town(tmp_path / "s")
    for node in ("n1", "n2"):
        town.now_ns += S
        with town.appender(node) as appender:
            appender.append(batch(HOP_1M, {"count": 5}))
        town.compactor().round()
    [file] = (town.path / "hop_1m" / "n1").glob("*.parquet")
    file.write_bytes(b"PAR1" + bytes(100))
    store = EmbeddedStore(town.path)
    assert store.quarters(EVER, ANY, ("node",), None, "hop_1m")["node"].tolist() == ["n2"]
    assert len(store.problems) == 1
    store.close()


def rows_of(**values: list[int] | list[str]) -> dict[str, np.ndarray]:
    """Summary rows; what is not given is 0."""
    count = len(values["time"])
    rows = {name: np.zeros(count, "i8") for name in NAMES}
    for name, column in values.items():
        rows[name] = np.array(column, object if isinstance(column[0], str) else "i8")
    return rows


def test_sums_of_sums_are_the_sums_of_all() -> None:
    rows = rows_of(
        kind=["rx", "rx", "tx"],
        time=[10 * S, 19 * S, 20 * S],
        count=[1, 0, 2],
        min_ns=[9, 0, 5],
        q03=[1, 0, 2],
    )
    parts = [{name: column[part] for name, column in rows.items()} for part in (slice(0, 1), slice(1, 3))]
    both = sums_of_parts(parts, Steps(("kind",), 10, 0))
    assert values(both, "kind", "time", "count", "min_ns", "q03") == [
        ("rx", 10 * S, 1, 9, 1),
        ("tx", 20 * S, 2, 5, 2),
    ]


def test_sums_of_histograms_are_those_of_their_quarter_octaves() -> None:
    counts = np.zeros((3, BUCKETS), np.uint32)
    counts[0, [0, 153, 154, 162, 163]] = [1, 2, 3, 4, 5]
    counts[1, [855, 856, 901]] = [6, 7, 8]
    rows = {name: column for name, column in rows_of(time=[5, 6, 7]).items() if name not in QUARTERS}
    found = sums_of(rows | {"hist": np.array(encode(counts), object)}, Steps((), None, 3))
    assert found["time"].tolist() == [3]
    occupied = {name: found[name].tolist() for name in QUARTERS if found[name].any()}
    assert occupied == {"q00": [3], "q01": [7], "q02": [5], "q78": [6], "q79": [15]}


def test_sums_of_a_text_that_is_no_histogram_say_so() -> None:
    rows = {name: column for name, column in rows_of(time=[5]).items() if name not in QUARTERS}
    with pytest.raises(ValueError, match="histogram 0: 'no!' is no base64"):
        sums_of(rows | {"hist": np.array(["no!"], object)}, Steps((), None, 0))
