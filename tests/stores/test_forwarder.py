# SPDX-License-Identifier: Apache-2.0
"""The forwarder as a process, between an appender and real servers."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.appender import Appender
from store.influxdb.admin import init
from store.influxdb.http import Connection
from store.schema import HOP_10S, HOP_SAMPLE
from store.spool.facts import SpoolFacts, parsed
from store.spool.settings import ForwarderSettings
from tests.servers import Server, influxdb2
from tests.stores.conftest import connected
from tests.stores.fake_server import Answer, fake_server
from tests.unit.store.hops import Row, batch
from tests.unit.store.rows import events, segments

DEADLINE_S = 30.0
TOKEN = "s3cr3t-t0k3n"


class Process:
    """A forwarder of node n1; `facts` are the last that it told."""

    def __init__(self, spool: Path, target: str, token_file: Path | None, rows_per_s: float = 1e6) -> None:
        token = "" if token_file is None else str(token_file)
        settings = ForwarderSettings(str(spool), "n1", target, token, "", 1 << 30, 1e6, rows_per_s)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "store.forwarder", settings.as_argument()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.facts = SpoolFacts()
        self._rest = b""

    def until(self, condition: Callable[[SpoolFacts], bool]) -> SpoolFacts:
        """The facts once they are so."""
        assert self.process.stdout is not None
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition(self.facts):
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, self.facts
            if select.select([self.process.stdout], [], [], left_s)[0]:
                data = os.read(self.process.stdout.fileno(), 1 << 16)
                assert data, (self.process.wait(), self.process.stderr and self.process.stderr.read())
                *lines, self._rest = (self._rest + data).split(b"\n")
                for line in lines:
                    self.facts = parsed(line.decode())
        return self.facts

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, SpoolFacts, str]:
        """Exit code, last facts, what it said."""
        self.process.send_signal(number)
        out, said = self.process.communicate(timeout=DEADLINE_S)
        lines = (self._rest + out).decode().splitlines()
        return self.process.returncode, parsed(lines[-1]) if lines else self.facts, said.decode()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


Starter = Callable[..., Process]


@pytest.fixture
def start() -> Iterator[Starter]:
    started: list[Process] = []

    def begin(*arguments: object, **named: object) -> Process:
        started.append(Process(*arguments, **named))  # type: ignore[arg-type]  # a fixture's pass-through
        return started[-1]

    yield begin
    for each in started:
        each.close()


@pytest.fixture(params=["influxdb2", "influxdb1"])
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    return servers[request.param]


def samples(count: int) -> list[Row]:
    return [{"latency_ns": number, "trace_lo": number, "src_lo": 0xFFFF_0A00_0001} for number in range(count)]


def count(connection: Connection) -> int:
    """Samples that are there."""
    return _count(connection, "samples", 'SELECT count("latency_ns") FROM "hop_sample"')


def _count(connection: Connection, bucket: str, statement: str) -> int:
    [found] = connection.influxql(f"{connection.target.prefix}_{bucket}", [statement])
    return int(found[0].values[0][1]) if found else 0


def test_forwarder_brings_rows_and_leaves_an_empty_spool(
    server: Server, tmp_path: Path, start: Starter
) -> None:
    with connected(server, "brings") as connection:
        init(connection)
        with Appender(tmp_path / "s", "c", "n1") as appender:
            forwarder = start(tmp_path / "s", str(connection.target), server.token_file)
            for _ in range(3):
                appender.append(batch(HOP_SAMPLE, *samples(4000)))
            appender.append(events("a"))
            forwarder.until(lambda facts: facts.sent.get("hop_sample") == 12_000 and facts.sent["event"] == 1)
        code, facts, said = forwarder.end()
        assert (code, said) == (0, "")
        assert (facts.size_bytes, facts.error, facts.waiting["hop_sample"]) == (0, None, 0)
        assert (count(connection), _count(connection, "events", 'SELECT count("state") FROM "event"')) == (
            12_000,
            1,
        )
        assert segments(tmp_path / "s", table="hop_sample") == []


def test_forwarder_at_its_end_sends_what_came_last(server: Server, tmp_path: Path, start: Starter) -> None:
    with connected(server, "drains") as connection:
        init(connection)
        with Appender(tmp_path / "s", "c", "n1") as appender:
            forwarder = start(tmp_path / "s", str(connection.target), server.token_file)
            appender.append(events("a"))
            forwarder.until(lambda facts: facts.sent.get("event") == 1)
            appender.append(batch(HOP_SAMPLE, *samples(8000)))
        code, facts, _ = forwarder.end()
        assert (code, facts.sent["hop_sample"], count(connection)) == (0, 8000, 8000)


def test_forwarder_outlives_a_server_that_is_killed(tmp_path: Path, start: Starter) -> None:
    (tmp_path / "server").mkdir()
    with influxdb2(tmp_path / "server") as server, connected(server) as connection:
        init(connection)
        with Appender(tmp_path / "s", "c", "n1") as appender:
            forwarder = start(tmp_path / "s", str(connection.target), server.token_file)
            appender.append(batch(HOP_SAMPLE, *samples(100)))
            forwarder.until(lambda facts: facts.sent.get("hop_sample") == 100)
            server.kill()
            appender.append(batch(HOP_SAMPLE, *samples(100)))
            facts = forwarder.until(lambda facts: facts.error is not None)
            assert "nobody answers: [Errno 111] Connection refused" in str(facts.error)
            server.start()
            forwarder.until(lambda facts: facts.sent["hop_sample"] == 200 and facts.error is None)
        assert count(connection) == 200


def test_forwarder_killed_again_and_again_loses_and_doubles_nothing(
    server: Server, tmp_path: Path, start: Starter
) -> None:
    with connected(server, "again") as connection:
        init(connection)
        with Appender(tmp_path / "s", "c", "n1") as appender:
            for number in range(8):
                forwarder = start(tmp_path / "s", str(connection.target), server.token_file)
                appender.append(batch(HOP_SAMPLE, *samples(6000)))
                if number < 7:
                    forwarder.until(lambda facts, least=6000 * number: sum(facts.sent.values()) > least)  # type: ignore[misc]
                    forwarder.process.kill()
                    forwarder.process.wait()
            forwarder.until(lambda facts: facts.waiting.get("hop_sample") == 0 and facts.oldest_ns is None)
        assert count(connection) == 48_000


def test_forwarder_reads_a_new_token_when_the_old_one_is_refused(
    servers: dict[str, Server], tmp_path: Path, start: Starter
) -> None:
    server, token_file = servers["influxdb2"], tmp_path / "token"
    token_file.write_text(TOKEN)
    with connected(server, "token") as connection:
        init(connection)
        with Appender(tmp_path / "s", "c", "n1") as appender:
            forwarder = start(tmp_path / "s", str(connection.target), token_file)
            appender.append(events("a"))
            facts = forwarder.until(lambda facts: facts.error is not None)
            assert "it does not accept the token" in str(facts.error)
            token_file.write_text(server.token)
            forwarder.until(lambda facts: facts.sent["event"] == 1 and facts.error is None)
        _, facts, said = forwarder.end()
        assert TOKEN not in said + facts.as_text()


def test_forwarder_one_missing_bucket_keeps_only_its_rows_waiting(
    server: Server, tmp_path: Path, start: Starter
) -> None:
    with connected(server, "missing") as connection:
        init(connection)
        _remove(connection, "missing_samples")
        with Appender(tmp_path / "s", "c", "n1") as appender:
            forwarder = start(tmp_path / "s", str(connection.target), server.token_file)
            appender.append(batch(HOP_SAMPLE, *samples(5)))
            appender.append(batch(HOP_10S, {"count": 1}))
            facts = forwarder.until(lambda facts: facts.error is not None and facts.sent["hop_10s"] == 1)
            assert "run overhop store init" in str(facts.error)
            assert facts.waiting["hop_sample"] == 5
            init(connection)
            forwarder.until(lambda facts: facts.sent["hop_sample"] == 5 and facts.error is None)
        assert count(connection) == 5


def _remove(connection: Connection, bucket: str) -> None:
    if connection.target.flavour == "influxdb1":
        connection.influxql("", [f'DROP DATABASE "{bucket}"'])
        return
    found = json.loads(connection.request("GET", "/api/v2/buckets", {"name": bucket}).data)["buckets"]
    assert connection.request("DELETE", f"/api/v2/buckets/{found[0]['id']}").status == 204


def test_forwarder_sets_a_row_aside_that_the_server_refuses(
    server: Server, tmp_path: Path, start: Starter
) -> None:
    """A field of another type than ours is there before: rows that have it cannot be taken, others can."""
    with connected(server, "refused") as connection:
        init(connection)
        field = b"hop_sample,node=other context_offset=1.5"
        assert _write(connection, "refused_samples", field) in (200, 204)
        with Appender(tmp_path / "s", "c", "n1") as appender:
            forwarder = start(tmp_path / "s", str(connection.target), server.token_file)
            appender.append(batch(HOP_SAMPLE, *samples(50)))
            forwarder.until(lambda facts: facts.sent.get("hop_sample") == 50)
            appender.append(batch(HOP_SAMPLE, *samples(20), {"latency_ns": 1, "context_offset": 7}))
            facts = forwarder.until(lambda facts: sum(facts.rejected.values()) > 0)
        assert facts.sent["hop_sample"] + facts.rejected["hop_sample"] == 71
        _, _, said = forwarder.end()
        assert "is refused and set aside" in said
        text = (tmp_path / "s" / "rejected" / "n1.jsonl").read_text()
        aside = [json.loads(line) for line in text.splitlines()]
        assert len(aside) == facts.rejected["hop_sample"]
        assert all("context_offset" in each["line"] for each in aside)
        assert "field type conflict" in aside[0]["said"]


def _write(connection: Connection, bucket: str, line: bytes) -> int:
    path = f"/write?db={bucket}"
    if connection.target.flavour == "influxdb2":
        path = f"/api/v2/write?org={connection.target.org}&bucket={bucket}"
    return connection.request("POST", path, body=line).status


def test_forwarder_waits_where_a_proxy_refuses_everything(tmp_path: Path, start: Starter) -> None:
    def answer(_method: str, _path: str) -> Answer:
        return 400, {}, b"<html>no</html>"

    with fake_server(answer) as fake, Appender(tmp_path / "s", "c", "n1") as appender:
        forwarder = start(tmp_path / "s", f"influxdb1://{fake.url.removeprefix('http://')}/", None)
        appender.append(events("a", "b"))
        facts = forwarder.until(lambda facts: facts.error is not None)
        assert (facts.rejected["event"], facts.waiting["event"]) == (0, 2)


def test_forwarder_tells_that_the_clocks_are_an_hour_apart_and_sends(tmp_path: Path, start: Starter) -> None:
    def answer(_method: str, _path: str) -> Answer:
        return 204, {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, b""

    with fake_server(answer) as fake, Appender(tmp_path / "s", "c", "n1") as appender:
        forwarder = start(tmp_path / "s", f"influxdb1://{fake.url.removeprefix('http://')}/", None)
        appender.append(events("a"))
        facts = forwarder.until(lambda facts: facts.sent.get("event") == 1)
        assert abs(facts.clock_off_ns) > 3600 * 10**9


def test_forwarder_of_the_same_node_is_refused_with_3(tmp_path: Path, start: Starter) -> None:
    with Appender(tmp_path / "s", "c", "n1"):
        first = start(tmp_path / "s", "influxdb1://127.0.0.1:1/", None)
        first.until(lambda facts: facts.sent != {})
        second = start(tmp_path / "s", "influxdb1://127.0.0.1:1/", None)
        assert second.process.wait(DEADLINE_S) == 3
        assert second.process.stderr is not None
        assert b"another forwarder sends the rows of node 'n1'" in second.process.stderr.read()


def test_forwarder_of_an_embedded_store_is_refused_with_2(tmp_path: Path, start: Starter) -> None:
    with Appender(tmp_path / "s", "c", "n1") as appender:
        appender.append(events("a"))
    (tmp_path / "s" / "writer.lock").touch()
    forwarder = start(tmp_path / "s", "influxdb1://127.0.0.1:1/", None)
    assert forwarder.process.wait(DEADLINE_S) == 2
    assert forwarder.process.stderr is not None
    assert b"it is an embedded store: give another directory" in forwarder.process.stderr.read()
    assert len(segments(tmp_path / "s")) == 1


def test_forwarder_ends_when_its_spool_is_removed(tmp_path: Path, start: Starter) -> None:
    with Appender(tmp_path / "s", "c", "n1"):
        forwarder = start(tmp_path / "s", "influxdb1://127.0.0.1:1/", None)
        forwarder.until(lambda facts: facts.sent != {})
        (tmp_path / "s" / "forwarders" / "n1").unlink()
        assert forwarder.process.wait(DEADLINE_S) == 1


@pytest.mark.parametrize("argument", ["", "{}", '{"spool": 1}', "nonsense"])
def test_forwarder_without_settings_is_wrong_usage(argument: str) -> None:
    argv = [sys.executable, "-m", "store.forwarder", argument]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == 2
    assert b"usage: python -m store.forwarder JSON" in done.stderr


def test_forwarder_stays_small(servers: dict[str, Server], tmp_path: Path, start: Starter) -> None:
    """80 MB while it sends 100,000 samples that have waited."""
    server = servers["influxdb2"]
    with connected(server, "small") as connection:
        init(connection)
        with Appender(tmp_path / "s", "c", "n1") as appender:
            for _ in range(20):
                appender.append(batch(HOP_SAMPLE, *samples(5000)))
        forwarder = start(tmp_path / "s", str(connection.target), server.token_file)
        forwarder.until(lambda facts: facts.sent.get("hop_sample") == 100_000)
        status = Path(f"/proc/{forwarder.process.pid}/status").read_text()
        peak_kb = int(status.split("VmHWM:")[1].split()[0])
        assert peak_kb < 90_000
        assert count(connection) == 100_000
