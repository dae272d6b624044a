# SPDX-License-Identifier: Apache-2.0
"""Whatever a thing is called, it is found by its name, nothing else is, and nothing else happens."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.influxdb.admin import init
from store.influxdb.lines import lines_of
from store.influxdb.reading import InfluxStore
from store.influxdb.target import Target
from store.influxdb.writing import LineWriter, line_writer
from store.query import Columns, Span, Where
from store.schema import HOP_10M, HOP_SAMPLE, TEXT, Table
from tests.servers import Server
from tests.stores.conftest import connected

S = 1_000_000_000
EVER = Span(0, 1 << 62)
PICTURES = "".join(map(chr, [*range(0x2400, 0x2422), 0x29F5]))
"""What tags have instead of control characters and backslashes: read back as these."""
NAMES = st.text(
    st.one_of(
        st.sampled_from("'\"\\\n\r\t\0;=, /$`{}()|*.^-#%é\u202e\ufeff\ufffd\U0001f600\x7f\x85\u2028"),
        st.characters(exclude_categories=["Cs"], exclude_characters=PICTURES),
    ),
    max_size=12,
)
KNOWN = [
    "",
    "'; DROP MEASUREMENT hop; --",
    "\\",
    "\\'",
    "a\\nb",
    "a\r\nb",
    "\0",
    "/.*/",
    "a' OR 'a' = 'a",
    "$bound",
    "time",
]


@dataclass
class Place:
    """A server in which every name that was ever tried is one sample and one summary."""

    target: Target
    store: InfluxStore
    writer: LineWriter
    next_ns: int
    samples: dict[str, int] = field(default_factory=dict)
    summaries: dict[str, int] = field(default_factory=dict)
    """By name: the time of its row."""

    def add(self, name: str) -> None:
        """Its rows, if there are none yet."""
        if name in self.samples:
            return
        self.samples[name] = self._write(HOP_SAMPLE, name)
        self.summaries[name] = self._write(HOP_10M, name)

    def _write(self, table: Table, name: str) -> int:
        self.next_ns += S
        given = {"node": name, "kind": name, "src_ns": name, "src_workload": name, "service": name}
        given |= {"dst_workload": "other end", "dst_ns": "other end"}
        numbers = {"time": self.next_ns, "count": 1, "latency_ns": 5}
        columns: dict[str, np.ndarray] = {}
        for column in table.columns:
            if column.dtype == TEXT:
                columns[column.name] = np.array([given.get(column.name, "")], object)
            else:
                columns[column.name] = np.array([numbers.get(column.name, 0)], column.dtype)
        self.writer.write(table, lines_of(self.target, table, columns))
        return self.next_ns


@pytest.fixture(scope="module")
def places(servers: dict[str, Server]) -> Iterator[list[Place]]:
    found = []
    for server in servers.values():
        connection = connected(server, "hostile")
        init(connection)
        writer = line_writer(connection.target, connection.secret)
        begin_ns = time.time_ns() - 86_400 * S
        place = Place(connection.target, InfluxStore(connection), writer, begin_ns)
        for name in KNOWN:
            place.add(name)
        found.append(place)
    yield found
    for place in found:
        place.writer.close()
        place.store.close()


def times(columns: Columns) -> list[int]:
    return sorted(columns["time"].tolist())


FUZZ = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def require_found(place: Place, name: str) -> None:
    """Its rows and no others."""
    for where in (Where(kind=name), Where(node=name), Where(name, name, name, name)):
        assert times(place.store.samples(EVER, where)) == [place.samples[name]]
        assert times(place.store.summaries(EVER, where, "hop_10m")) == [place.summaries[name]]


def require_all(place: Place) -> None:
    """Every row by its names, once."""
    found = place.store.samples(EVER, Where())
    for column in ("src_workload", "node"):
        assert dict(zip(found[column].tolist(), found["time"].tolist(), strict=True)) == place.samples
    found = place.store.summaries(EVER, Where(), "hop_10m")
    assert dict(zip(found["service"].tolist(), found["time"].tolist(), strict=True)) == place.summaries


@pytest.mark.parametrize("name", KNOWN)
def test_names_that_mean_something_elsewhere_find_their_rows_only(places: list[Place], name: str) -> None:
    for place in places:
        require_found(place, name)
        require_all(place)


@FUZZ
@given(st.lists(NAMES, min_size=1, max_size=4))
def test_names_whatever_they_are_find_their_rows_only(places: list[Place], names: list[str]) -> None:
    for place in places:
        for name in names:
            place.add(name)
        for name in names:
            require_found(place, name)
        require_all(place)


@FUZZ
@given(st.text(max_size=12))
def test_names_that_nobody_has_find_nothing(places: list[Place], name: str) -> None:
    for place in places:
        if name in place.samples or any(letter in PICTURES for letter in name):
            continue
        for where in (Where(kind=name), Where(node=name), Where(workload=name)):
            assert times(place.store.samples(EVER, where)) == []
            assert times(place.store.summaries(EVER, where, "hop_10m")) == []


@pytest.mark.parametrize("name", ["\ud800", "a\udcffb", "\ufffd\udc80"])
def test_names_that_no_server_can_hold_find_nothing(places: list[Place], name: str) -> None:
    for place in places:
        place.add("\ufffd")
        place.add("a\ufffdb")
        assert times(place.store.samples(EVER, Where(workload=name))) == []
        assert times(place.store.samples(EVER, Where(node=name))) == []
        assert place.store.summary_count(EVER, Where(kind=name)) == 0
        assert times(place.store.quarters(EVER, Where(kind=name), ("kind",), 60)) == []
