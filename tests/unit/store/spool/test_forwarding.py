# SPDX-License-Identifier: Apache-2.0
"""Retries, pace, bounds and accounts of the forwarder, with a server made up."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from store.appender import Appender, Limits
from store.influxdb.http import Refused, Response, Unreachable
from store.influxdb.target import parse_target
from store.schema import EVENT, HOP_10S, Table
from store.spool.facts import SpoolFacts, parsed
from store.spool.forwarding import Bounds, Forwarder
from store.spool.lane import Lane
from store.spool.position import PositionFile
from store.spool.sending import Sender, SetAside
from tests.unit.store.hops import batch
from tests.unit.store.rows import events

S = 1_000_000_000
TARGET = parse_target("influxdb2://h/")


class World:
    """Clocks, an appender, a server and a forwarder between them."""

    def __init__(self, path: Path) -> None:
        self.now_s = 1_700_000_000.0
        self.path = path
        self.there: dict[str, list[bytes]] = {"event": [], "hop_10s": []}
        self.error: dict[str, Exception] = {}
        """By table."""
        self.server_ns: int | None = None
        self.tries = 0
        self.appender = Appender(path, "c", "n1", self.ns, self.s, Limits(segment_bytes=2000))
        self.positions = PositionFile(path, "n1")

    def ns(self) -> int:
        return int(self.now_s * S)

    def s(self) -> float:
        return self.now_s

    def forwarder(self, spool_bytes: int = 1 << 30, age_s: float = 1e6, rows_per_s: float = 1e6) -> Forwarder:
        places = self.positions.positions
        lanes = [Lane(self.path, each, "n1", places[each.name]) for each in (EVENT, HOP_10S)]
        bounds = Bounds(spool_bytes, age_s, rows_per_s)
        return Forwarder(TARGET, lanes, self.positions, self, bounds, self.s, self.ns)

    def send(self, table: Table, lines: Sequence[bytes]) -> int:
        self.tries += 1
        if table.name in self.error:
            raise self.error[table.name]
        self.there[table.name] += lines
        return 0

    @property
    def clock_ns(self) -> int | None:
        return self.server_ns

    def run(self, forwarder: Forwarder) -> None:
        """Until nothing more goes."""
        forwarder.look()
        while forwarder.turn() == 0.0:
            pass
        forwarder.look()

    def close(self) -> None:
        self.appender.close()
        self.positions.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "s")
    yield made
    made.close()


def details(world: World) -> list[str]:
    return [line.decode().split('detail="')[1].split('"')[0] for line in world.there["event"]]


def test_forwarder_sends_everything_in_order_once(world: World) -> None:
    forwarder = world.forwarder()
    for number in range(50):
        world.appender.append(events(f"e{number:02}"))
    world.run(forwarder)
    assert details(world) == [f"e{number:02}" for number in range(50)]
    facts = forwarder.facts()
    assert (facts.sent["event"], facts.waiting["event"], facts.error) == (50, 0, None)
    assert forwarder.is_empty


def test_forwarder_waits_longer_and_longer_for_a_server_that_is_away(world: World) -> None:
    forwarder = world.forwarder()
    world.appender.append(events("a"))
    world.error["event"] = Unreachable("store h: nobody answers")
    tried_at = []
    begin_s = world.now_s
    while world.now_s < begin_s + 100:
        before = world.tries
        world.run(forwarder)
        if world.tries > before:
            tried_at.append(round(world.now_s - begin_s, 1))
        world.now_s += 0.125
    assert tried_at == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 61.5, 91.5]
    facts = forwarder.facts()
    assert (facts.error, facts.error_since_ns) == ("store h: nobody answers", int(begin_s * S))
    assert (facts.waiting["event"], facts.oldest_ns) == (1, int(begin_s * S))
    world.error.clear()
    forwarder.retry_now()
    world.run(forwarder)
    assert details(world) == ["a"]
    assert forwarder.facts().error is None


def test_forwarder_waits_as_long_as_a_server_asks(world: World) -> None:
    forwarder = world.forwarder()
    world.appender.append(events("a"))
    world.error["event"] = Refused("slow down", 429, "slow down", 20.0)
    world.run(forwarder)
    del world.error["event"]
    world.now_s += 19.9
    world.run(forwarder)
    assert details(world) == []
    world.now_s += 0.2
    world.run(forwarder)
    assert details(world) == ["a"]


@pytest.mark.parametrize("status", [404, 400, 422])
def test_forwarder_a_table_that_fails_does_not_keep_the_others(world: World, status: int) -> None:
    forwarder = world.forwarder()
    world.error["hop_10s"] = Refused("no bucket", status, "no bucket")
    world.appender.append(batch(HOP_10S, {"count": 1}))
    world.appender.append(events("a"))
    world.run(forwarder)
    world.appender.append(events("b"))
    world.run(forwarder)
    assert details(world) == ["a", "b"]
    facts = forwarder.facts()
    assert (facts.error, facts.waiting["hop_10s"]) == ("no bucket", 1)
    assert forwarder.is_failing


@pytest.mark.parametrize("error", [Unreachable("away"), Refused("no token", 401, ""), Refused("x", 500, "")])
def test_forwarder_a_server_that_fails_is_not_asked_for_each_table(world: World, error: Exception) -> None:
    forwarder = world.forwarder()
    world.error = {"hop_10s": error, "event": error}
    world.appender.append(batch(HOP_10S, {"count": 1}))
    world.appender.append(events("a"))
    world.run(forwarder)
    assert world.tries == 1


def test_forwarder_is_no_faster_than_allowed(world: World) -> None:
    forwarder = world.forwarder(rows_per_s=100)
    world.appender.append(events(*["x"] * 200))
    world.appender.append(events(*["y"] * 200))
    world.run(forwarder)
    assert len(world.there["event"]) == 400  # one piece; what it was too fast is waited for
    world.appender.append(events("z"))
    forwarder.look()
    begin_s = world.now_s
    while len(world.there["event"]) < 401:
        world.now_s += forwarder.turn()
    assert 2.9 <= world.now_s - begin_s <= 3.6  # 400 at once, of which 100 may


def test_forwarder_spool_that_is_full_loses_its_oldest_rows_and_counts_them(world: World) -> None:
    forwarder = world.forwarder(spool_bytes=6000)
    world.error["event"] = Unreachable("away")
    for number in range(400):
        world.appender.append(events(f"{number:04}" * 20))
        world.now_s += 1
        if number % 20 == 0:
            forwarder.look()
    forwarder.look()
    facts = forwarder.facts()
    assert facts.size_bytes <= 6000
    assert facts.no_room["event"] > 100
    assert facts.waiting["event"] + facts.no_room["event"] == 400
    world.error.clear()
    world.run(forwarder)
    kept = [int(text[:4]) for text in details(world)]
    assert kept == list(range(facts.no_room["event"], 400))


def test_forwarder_rows_that_waited_too_long_go_and_are_counted(world: World) -> None:
    forwarder = world.forwarder(age_s=3600)
    world.appender.append(events("old"))
    world.now_s += 7200
    world.appender.poll()  # its segment ends by age
    world.appender.append(events("new"))
    world.run(forwarder)
    facts = forwarder.facts()
    assert (facts.too_old["event"], facts.sent["event"]) == (1, 1)
    assert details(world) == ["new"]


def test_forwarder_rows_that_the_server_would_not_keep_are_not_sent(world: World) -> None:
    forwarder = world.forwarder(age_s=1e9)
    world.appender.append(batch(HOP_10S, {"count": 1}))
    world.now_s += 8 * 86_400
    world.run(forwarder)
    assert (forwarder.facts().too_old["hop_10s"], world.tries) == (1, 0)


def test_forwarder_goes_on_where_the_one_before_was_killed(world: World) -> None:
    world.appender.append(events("a"))
    world.run(world.forwarder())
    world.appender.append(events("b"))
    world.positions.close()
    world.positions = PositionFile(world.path, "n1")
    again = world.forwarder()
    world.run(again)
    assert details(world) == ["a", "b"]
    assert again.facts().sent["event"] == 2


def test_forwarder_says_how_far_the_clocks_are_apart(world: World) -> None:
    forwarder = world.forwarder()
    world.server_ns = world.ns() - S
    world.appender.append(events("a"))
    world.run(forwarder)
    assert forwarder.facts().clock_off_ns == 0
    world.server_ns = world.ns() - 3600 * S
    world.appender.append(events("b"))
    world.run(forwarder)
    assert forwarder.facts().clock_off_ns == -3600 * S


def test_facts_as_text_and_back() -> None:
    facts = SpoolFacts(sent={"event": 5}, rejected={"event": 1}, damaged={"hop_10s": 2}, error="é")
    assert parsed(facts.as_text()) == facts
    assert facts.dropped == {"rejected": 1, "no_room": 0, "too_old": 0, "damaged": 2}
    for text in ("", "[]", '{"x": 1}'):
        with pytest.raises(ValueError, match=r".*"):
            parsed(text)


# ---- rows that a server refuses --------------------------------------------------------------------


class Picky:
    """A server that refuses requests with a bad line in them; `is_mad`: all of them."""

    def __init__(self, status: int = 400) -> None:
        self.status, self.is_mad = status, False
        self.there: list[bytes] = []
        self.requests = 0

    def write(self, table: Table, lines: Sequence[bytes]) -> Response:  # noqa: ARG002
        self.requests += 1
        if self.is_mad or any(b"bad" in line for line in lines):
            raise Refused("no", self.status, "unable to parse")
        self.there += [line for line in lines if not line.startswith(b"overhop_probe")]
        return Response(204, {}, b"", None)

    def close(self) -> None:
        """Nothing to let go of."""


@pytest.mark.parametrize("status", [400, 413, 422])
def test_sender_sets_bad_rows_aside_and_the_others_are_there(tmp_path: Path, status: int) -> None:
    server = Picky(status)
    sender = Sender(server, "n1", SetAside(tmp_path, "n1"), lambda: 1)
    lines = [b"bad" if at in (3, 97) else b"line%02d" % at for at in range(100)]
    assert sender.send(EVENT, lines) == 2
    assert sorted(server.there) == sorted(line for line in lines if line != b"bad")
    assert server.requests < 40
    aside = [json.loads(line) for line in (tmp_path / "rejected" / "n1.jsonl").read_text().splitlines()]
    assert aside == [{"table": "event", "said": "unable to parse", "line": "bad"}] * 2


def test_sender_of_a_server_that_refuses_good_rows_too_loses_none(tmp_path: Path) -> None:
    server = Picky()
    server.is_mad = True
    sender = Sender(server, "n1", SetAside(tmp_path, "n1"), lambda: 1)
    with pytest.raises(Refused):
        sender.send(EVENT, [b"a", b"b"])
    assert not (tmp_path / "rejected").exists()


def test_set_aside_is_bounded(tmp_path: Path) -> None:
    aside = SetAside(tmp_path, "n1")
    for _ in range(6):
        aside.add(EVENT, b"x" * (1 << 20), "no")
    assert (tmp_path / "rejected" / "n1.jsonl").stat().st_size < 6 << 20
