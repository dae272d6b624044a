# SPDX-License-Identifier: Apache-2.0
"""`overhop store usage` against real servers."""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from overhop.cli import main
from store.appender import Appender
from store.batch import Labels, Numbers
from store.influxdb.admin import init
from store.influxdb.http import Connection
from store.influxdb.lines import lines_of
from store.influxdb.sizing import Cluster, Used, series_of
from store.influxdb.target import Secret, parse_target
from store.influxdb.usage import usage
from store.influxdb.writing import line_writer
from store.schema import EVENT, HOP_10S, HOP_SAMPLE, SUMMARIES, Table
from tests.servers import Server, influxdb1, influxdb2, victoriametrics
from tests.stores.conftest import connected
from tests.stores.fake_server import Answer, fake_server
from tests.unit.store.hops import Row, batch
from tests.unit.store.rows import events

S = 1_000_000_000
Maker = Callable[..., AbstractContextManager[Server]]


def test_usage_counts_series_nodes_and_rows(server: Server) -> None:
    with connected(server, "used") as connection:
        init(connection)
        writer = line_writer(connection.target, connection.secret)
        now_ns = time.time_ns()
        lines = [f"hop,node=n{node},kind=k{kind} count=1i" for node in (1, 2) for kind in (1, 2, 3)]
        for age_s in (60, 7_200, 200_000):  # in two shards
            writer.write(HOP_10S, [f"{line} {now_ns - age_s * S}".encode() for line in lines])
        writer.write(HOP_10S, [f"overhop_probe,node=n3 ok=1i {now_ns}".encode()])
        writer.close()
        found = {each.table.name: each for each in usage(connection)}
    used = found["hop_10s"].used
    assert found["hop_10s"].bucket == "used_10s"
    assert found["hop_10s"].kept_s == 604_800
    assert (used.series, used.nodes, used.rows_hour, used.rows_day, used.rows) == (6, 2, 6, 12, 18)
    assert found["hop_sample"].used.rows == 0


def test_usage_of_buckets_that_are_not_there_says_what_to_do(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--store", f"{server.target}?prefix=absent"]
    if server.token_file:
        place += ["--store-token-file", str(server.token_file)]
    assert main(["store", "usage", *place]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "overhop store init" in said.err


@pytest.mark.parametrize("make", [influxdb2, influxdb1])
def test_usage_knows_the_size_once_the_server_has_compacted(make: Maker, tmp_path: Path) -> None:
    quick = {
        "INFLUXD_STORAGE_CACHE_SNAPSHOT_WRITE_COLD_DURATION": "100ms",
        "INFLUXDB_DATA_CACHE_SNAPSHOT_WRITE_COLD_DURATION": "100ms",
    }
    with make(tmp_path, env=quick) as server, connected(server) as connection:
        init(connection)
        writer = line_writer(connection.target, connection.secret)
        now_ns = time.time_ns()
        writer.write(
            HOP_10S, [f"hop,node=n1 count={row**3}i {now_ns - row**2}".encode() for row in range(5000)]
        )
        writer.close()
        deadline_s = time.monotonic() + 60
        while not (size := {each.bucket: each for each in usage(connection)}["overhop_10s"].used.size_bytes):
            assert time.monotonic() < deadline_s
            time.sleep(0.2)
    assert size > 1000


def test_usage_of_a_server_that_cannot_count_everything_goes_on_without() -> None:
    def answer(_method: str, path: str) -> Answer:
        if path.startswith("/metrics"):
            return 404, {}, b""
        if path.startswith("/api/v2/buckets"):
            return 200, {}, b'{"buckets": []}'
        is_small = b"WHERE" in fake.bodies[-1]
        results = b'{"statement_id":0}' if is_small else b'{"statement_id":0,"error":"too many series"}'
        return 200, {}, b'{"results":[' + results + b"]}"

    with fake_server(answer) as fake:
        found = usage(Connection(parse_target(f"influxdb2://{fake.place}/"), Secret("t")))
    assert [each.used for each in found] == [Used(0, 0, 0, 0, None, None)] * 5
    assert found[0].projection.size_bytes is None


def test_usage_of_victoriametrics_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with victoriametrics(tmp_path) as server:
        assert main(["store", "usage", "--store", server.target]) == 1
    assert "it is written only: ask its own page, /vmui" in capsys.readouterr().err


def test_usage_of_an_embedded_store_counts_rows_and_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now_ns = time.time_ns()
    for age_s in (200_000, 7_200, 60):
        with Appender(tmp_path / "s", "c", "n1", clock=lambda age_s=age_s: now_ns - age_s * S) as one:  # type: ignore[misc]
            one.append(events("a", "b"))
    assert main(["store", "usage", "--store", str(tmp_path / "s"), "--json"]) == 0
    used = {each["table"]: each for each in json.loads(capsys.readouterr().out)["buckets"]}["event"]
    size = sum(path.stat().st_size for path in (tmp_path / "s/event/n1").iterdir())
    assert (used["nodes"], used["rows_hour"], used["rows_day"], used["rows"]) == (1, 2, 4, 6)
    assert (used["series"], used["size_bytes"], used["bytes_per_row"]) == (None, size, size / 6)
    assert used["full"]["rows_per_day"] == 48
    assert used["full"]["rows"] == 48 * 400


# ---- the formula of docs/sizing.md -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Town:
    """Who calls whom, and on which nodes they run."""

    calls: Mapping[str, Sequence[str]]
    nodes_of: Mapping[str, frozenset[int]]
    contexts: Sequence[str] = ("w3c",)

    def hops(self) -> Iterator[tuple[int, Row]]:
        """Each series, with the node that sees it."""
        for caller, callees in self.calls.items():
            for callee in callees:
                for node, kind in self._sights(self.nodes_of[caller], self.nodes_of[callee]):
                    for context in self.contexts:
                        yield (
                            node,
                            {
                                "kind": kind,
                                "message": "request",
                                "context": context,
                                "count": 1,
                                "src_ns": "shop",
                                "src_workload": caller,
                                "dst_ns": "shop",
                                "dst_workload": callee,
                            },
                        )

    @staticmethod
    def _sights(callers: frozenset[int], callees: frozenset[int]) -> Iterator[tuple[int, str]]:
        yield from ((node, "tx") for node in callers if callees - {node})
        yield from ((node, "rx") for node in callees if callers - {node})
        yield from ((node, "local") for node in callers & callees)


def ring(workloads: int, nodes: int, contexts: Sequence[str] = ("w3c",)) -> Town:
    """Each calls the next two, all run everywhere."""
    names = [f"w{number}" for number in range(workloads)]
    calls = {
        name: [names[(at + 1) % workloads], names[(at + 2) % workloads]] for at, name in enumerate(names)
    }
    return Town(calls, dict.fromkeys(names, frozenset(range(nodes))), contexts)


def grid(side: int) -> Town:
    """Callers run along the rows, callees along the columns of nodes: each pair meets on one."""
    calls = {f"row{row}": [f"column{column}" for column in range(side)] for row in range(side)}
    rows = {f"row{row}": frozenset(row * side + column for column in range(side)) for row in range(side)}
    columns = {
        f"column{column}": frozenset(row * side + column for row in range(side)) for column in range(side)
    }
    return Town(calls, rows | columns)


def write(connection: Connection, table: Table, node: str, rows: Sequence[Row]) -> None:
    """By the encoder that agents' rows go through."""
    filled = batch(table, *rows)
    now_ns = time.time_ns()
    where: dict[str, Numbers | Labels] = {
        "time": np.arange(now_ns, now_ns + len(rows), dtype=np.int64),
        "cluster": Labels.same("c", len(rows)),
        "node": Labels.same(node, len(rows)),
    }
    writer = line_writer(connection.target, connection.secret)
    writer.write(table, lines_of(connection.target, table, {**where, **filled.columns}))
    writer.close()


def series(connection: Connection) -> dict[str, int | None]:
    return {each.table.name: each.used.series for each in usage(connection)}


@pytest.mark.parametrize(
    ("name", "town", "cluster", "expected"),
    [
        ("ring", ring(12, 3), Cluster(nodes=3, workloads=12, calls=2, spread=3), 216),
        ("contexts", ring(8, 2, ("w3c", "")), Cluster(2, 8, 2, 2, variants=2), 192),
        ("single", ring(5, 1), Cluster(nodes=1, workloads=5, calls=2, spread=1), 10),
        ("grid", grid(4), Cluster(nodes=16, workloads=8, calls=2, spread=4), 144),
    ],
)
def test_series_of_summaries_are_those_of_the_formula(
    server: Server, name: str, town: Town, cluster: Cluster, expected: int
) -> None:
    with connected(server, f"series_{name}") as connection:
        init(connection)
        seen: dict[int, list[Row]] = defaultdict(list)
        for node, row in town.hops():
            seen[node].append(row)
        for table in SUMMARIES:
            for node, rows in seen.items():
                for _ in range(2):  # the next interval's rows are no new series
                    write(connection, table, f"n{node}", rows)
        found = series(connection)
    for table in SUMMARIES:
        assert found[table.name] == series_of(table, cluster) == expected


def test_series_of_samples_and_events_are_those_of_the_formula(server: Server) -> None:
    random = np.random.default_rng(1)
    whats = (
        *(
            "agent",
            "capabilities",
            "plan",
            "nic",
            "vports",
            "attach",
            "shadowed",
            "store",
            "row times",
            "store clock",
            "forwarder",
        ),
        *("gap", "lost", "clock", "events"),
    )
    with connected(server, "series_rest") as connection:
        init(connection)
        for node in ("n1", "n2", "n3"):
            ids = random.integers(1, 1 << 62, (2000, 2)).tolist()
            samples: list[Row] = [
                {"trace_hi": high, "trace_lo": low, "src_pod": f"p{low}", "latency_ns": 1}
                for high, low in ids
            ]
            write(connection, HOP_SAMPLE, node, samples)
            write(
                connection,
                EVENT,
                node,
                [{"what": what, "state": "s", "detail": str(at)} for at in range(3) for what in whats],
            )
        found = series(connection)
    cluster = Cluster(nodes=3, workloads=1, calls=0, spread=1)
    assert found["hop_sample"] == series_of(HOP_SAMPLE, cluster) == 192
    assert found["event"] == series_of(EVENT, cluster) == 45
