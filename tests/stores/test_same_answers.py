# SPDX-License-Identifier: Apache-2.0
"""The embedded store, InfluxDB 2 and InfluxDB 1 give the same answers to the same questions."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from insight.distributions import cdf, changed, heat_map, over_time, top
from insight.series import stored_series
from store.embedded import EmbeddedStore
from store.importing import import_store
from store.influxdb.admin import init
from store.influxdb.reading import InfluxStore
from store.influxdb.writing import line_writer
from store.query import Columns, Span, Store, TraceId, Where
from store.schema import EVENT, HOP_1M, HOP_10M, HOP_10S, HOP_SAMPLE, SERIES
from store.spool.sending import Sender, SetAside
from tests.servers import Server
from tests.stores.conftest import connected
from tests.unit.store.compactors import EVER, HOUR, S, Town
from tests.unit.store.hops import Row, batch

HOSTILE = 'it\'s a "pod", a=b\\ \n\t{x} 100% ü\u202e'
TRACE = TraceId(0xFFFF_0000_1111_2222, 0x8000_0000_0000_0001)
ANY = Where()


@dataclass(frozen=True, slots=True)
class Trio:
    """The same rows in three stores."""

    embedded: EmbeddedStore
    servers: dict[str, InfluxStore]
    noon_ns: int


@pytest.fixture(scope="module")
def trio(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    town = Town(tmp_path_factory.mktemp("town") / "s")
    noon_ns = (time.time_ns() // HOUR - 4) * HOUR  # a server drops what is older than it keeps
    _live(town, noon_ns)
    stores = {}
    for name, server in servers.items():
        stores[name] = InfluxStore(connected(server, "same"))
        _copy(town.path, server, town.now_ns)
    town.compactor().round()
    assert [*town.path.rglob("*.parquet")]
    assert [*town.path.rglob("*.seg")], "the last hour of some tables"
    embedded = EmbeddedStore(town.path)
    yield Trio(embedded, stores, noon_ns)
    embedded.close()
    for store in stores.values():
        store.close()


def _copy(path: Path, server: Server, now_ns: int) -> None:
    connection = connected(server, "same")
    init(connection)
    writer = line_writer(connection.target, connection.secret)
    sender = Sender(writer, "n1", SetAside(path, "n1"))
    done = import_store(path, connection.target, sender, EVER, now_ns)
    assert done.problems == []
    assert not sum(done.rejected.values())
    assert done.read == done.written
    sender.close()
    connection.close()


def _live(town: Town, noon_ns: int) -> None:
    """Two hours of two nodes: one killed and started again, one that came late; and hostile names."""
    for second in range(0, 7200, 10):
        if not 3000 <= second < 3145:
            _flush(town, noon_ns + second * S, "n1", second)
        if second >= 5000:
            _flush(town, noon_ns + second * S + S // 2, "n2", second - 5000)
    town.now_ns = noon_ns + 3140 * S
    with town.appender("n1") as appender:
        appender.append(batch(EVENT, {"what": "agent", "state": "started", "since": noon_ns + 3138 * S}))
        appender.append(batch(EVENT, {"what": HOSTILE, "state": HOSTILE, "detail": HOSTILE}, {"state": "x"}))
    town.now_ns = noon_ns + 7200 * S
    for node in ("n1", HOSTILE):
        with town.appender(node) as appender:
            appender.append(batch(HOP_SAMPLE, *_samples()))
            town.now_ns += S


def _flush(town: Town, at_ns: int, node: str, second: int) -> None:
    tables = [HOP_10S, *([HOP_1M] if second % 60 == 0 else []), *([HOP_10M] if second % 600 == 0 else [])]
    town.now_ns = at_ns
    with town.appender(node) as appender:
        for table in tables:
            appender.append(batch(table, *_series(second + table.interval_s)))


def _series(seed: int) -> Iterator[Row]:
    rx: dict[str, int | str] = {"kind": "rx", "message": "request", "src_ns": "shop", "src_workload": "web"}
    yield rx | {
        "dst_ns": "shop",
        "dst_workload": "cart",
        "service": "shop/cart",
        "encap": "vxlan",
        "context": "w3c",
        "count": 3,
        "sum_ns": 30_000 + seed,
        "min_ns": 9_000 + seed % 7,
        "max_ns": 12_000 + seed % 11,
        "p50_ns": 10_000,
        "q12": 2,
        "q13": 1,
        "hist": "/QECCQE",
    }
    yield rx | {"dst_workload": HOSTILE, "context": "none", "retransmitted": 2}
    yield {
        "kind": "local",
        "src_workload": "host",
        "count": 1,
        "min_ns": 700,
        "max_ns": 700,
        "q00": 1,
        "hist": "fAE",
    }


def _samples() -> Iterator[Row]:
    one: dict[str, int | str] = {
        "kind": "tx",
        "src_ns": "shop",
        "src_pod": HOSTILE,
        "src_workload": "web",
        "trace_hi": TRACE.hi,
        "trace_lo": TRACE.lo,
        "span": 0xFFFF_FFFF_FFFF_FFFF,
        "src_lo": 0xFFFF_0A01_0007,
        "dst_hi": 0xFD00_0000_0000_0000,
        "dst_lo": 9,
        "latency_ns": 5000,
        "mono_ns": 1 << 62,
        "at_ns": 1_700_000_000_000_000_001,
        "seq": 0xFFFF_FFFF,
        "boot_id": "b",
    }
    yield one
    yield one | {"kind": "rx", "latency_ns": 9000, "kept_shift": 3, "tail": 1, "quality": 1}
    yield {"latency_ns": 5000, "dst_workload": "cart", "dst_ns": "shop"}
    yield {"latency_ns": 0, "trace_lo": 7}
    yield {"latency_ns": 5000, "kind": "rx", "trace_hi": TRACE.hi, "trace_lo": 8}


def require_equal(expected: Columns, found: Columns) -> None:
    assert list(found) == list(expected)
    for name, column in expected.items():
        assert found[name].dtype == column.dtype, name
        assert found[name].tolist() == column.tolist(), name


def each(trio: Trio) -> Iterator[Store]:
    assert sorted(trio.servers) == ["influxdb1", "influxdb2"]
    yield from trio.servers.values()


SPANS_S = [(-100, 300), (2900, 3400), (3000, 7201), (-36_000, 7201), (0, 3600), (5000, 9000)]
WHERES = [
    ANY,
    Where(kind="rx"),
    Where(namespace="shop"),
    Where(workload=HOSTILE),
    Where(namespace="shop", workload="cart"),
    Where(namespace="", workload="host"),
    Where(node="n2"),
    Where(node=HOSTILE),
    Where(node="nobody"),
    Where(namespace="shop", workload="web", node="n1", kind="rx"),
]


@pytest.mark.parametrize("table", ["hop_10s", "hop_1m", "hop_10m"])
@pytest.mark.parametrize("where", WHERES, ids=str)
def test_summaries_of_one_table_are_the_same(trio: Trio, table: str, where: Where) -> None:
    expected = trio.embedded.summaries(EVER, where, table)
    for store in each(trio):
        require_equal(expected, store.summaries(EVER, where, table))


@pytest.mark.parametrize("where", WHERES, ids=str)
@pytest.mark.parametrize("span_s", SPANS_S)
@pytest.mark.parametrize("points", [60, 1])
def test_summaries_of_all_tables_together_are_the_same(
    trio: Trio, where: Where, span_s: tuple[int, int], points: int
) -> None:
    span = Span(trio.noon_ns + span_s[0] * S, trio.noon_ns + span_s[1] * S)
    columns = ("node", *SERIES, "time", "count", "retransmitted", "max_ns", "hist")
    expected = trio.embedded.summaries(span, where, columns=columns, points=points)
    for store in each(trio):
        require_equal(expected, store.summaries(span, where, columns=columns, points=points))


def test_summaries_of_chosen_columns_have_no_others_and_every_row(trio: Trio) -> None:
    for columns in (("time",), ("hist",), ("q13", "node"), ("retransmitted",)):
        expected = trio.embedded.summaries(EVER, ANY, "hop_10m", columns)
        assert len(expected[columns[0]]) > 0
        for store in each(trio):
            require_equal(expected, store.summaries(EVER, ANY, "hop_10m", columns))


@pytest.mark.parametrize("where", WHERES, ids=str)
def test_samples_are_the_same(trio: Trio, where: Where) -> None:
    for limit in (1, 3, 4, 1000):
        for least_ns in (0, 5000, 5001):
            expected = trio.embedded.samples(EVER, where, least_ns, limit)
            for store in each(trio):
                require_equal(expected, store.samples(EVER, where, least_ns, limit))


def test_samples_there_are_ten_of_two_nodes(trio: Trio) -> None:
    for store in each(trio):
        found = store.samples(EVER, ANY)
        assert found["latency_ns"].tolist() == [9000, 9000, *[5000] * 6, 0, 0]
        assert len(store.samples(Span(0, HOUR), ANY)["time"]) == 0


@pytest.mark.parametrize("trace", [TRACE, TraceId(0, 7), TraceId(TRACE.hi, 8), TraceId(1, 1)])
def test_trace_is_the_same(trio: Trio, trace: TraceId) -> None:
    expected = trio.embedded.trace(trace)
    for store in each(trio):
        require_equal(expected, store.trace(trace))


def test_trace_has_its_four_hops(trio: Trio) -> None:
    for store in each(trio):
        assert len(store.trace(TRACE)["time"]) == 4


def test_events_are_the_same(trio: Trio) -> None:
    expected = trio.embedded.events(EVER)
    assert len(expected["what"]) == 3
    for store in each(trio):
        require_equal(expected, store.events(EVER))
        assert len(store.events(Span(0, 1))["what"]) == 0


def test_nodes_are_the_same(trio: Trio) -> None:
    expected = trio.embedded.nodes()
    assert sorted(expected) == sorted(["n1", HOSTILE])
    for store in each(trio):
        assert store.nodes() == expected


@pytest.mark.parametrize("by", [(), ("node",), ("cluster", "kind", "dst_workload"), ("node", *SERIES)])
@pytest.mark.parametrize("step_s", [None, 60, 3600])
def test_quarters_are_the_same(trio: Trio, by: tuple[str, ...], step_s: int | None) -> None:
    span = Span(trio.noon_ns, trio.noon_ns + 7200 * S)
    for where in (ANY, Where(kind="rx"), Where(node="n1", workload="web"), Where(node="nobody")):
        expected = trio.embedded.quarters(span, where, by, step_s)
        for store in each(trio):
            require_equal(expected, store.quarters(span, where, by, step_s))


def test_questions_of_people_have_the_same_answers(trio: Trio) -> None:
    span = Span(trio.noon_ns, trio.noon_ns + 7200 * S)
    half = trio.noon_ns + 3600 * S
    for where in (ANY, Where(kind="rx"), Where(node="n1")):
        for ask in (
            lambda store, where=where: over_time(store, span, where, 600),
            lambda store, where=where: heat_map(store, span, where, 600),
            lambda store, where=where: cdf(store, span, where),
            lambda store, where=where: top(store, span, where, 10, least_hops=1),
            lambda store, where=where: stored_series(store, span, where),
            lambda store, where=where: changed(
                store, Span(trio.noon_ns, half), Span(half, span.until_ns), where, 10, least_hops=1
            ),
        ):
            expected = ask(trio.embedded)
            assert [ask(store) for store in each(trio)] == [expected] * 2


def test_quarters_of_everything_add_up(trio: Trio) -> None:
    span = Span(trio.noon_ns, trio.noon_ns + 601 * S)
    for store in (trio.embedded, *each(trio)):
        found = store.quarters(span, Where(node="n1"), table="hop_10m")
        assert found["time"].tolist() == [span.since_ns]
        assert found["count"].tolist() == [8]
        assert (found["q00"].tolist(), found["q12"].tolist(), found["q13"].tolist()) == ([2], [4], [2])
        assert found["min_ns"].tolist() == [700]
        assert np.asarray(found["max_ns"]).max() < 12_011
