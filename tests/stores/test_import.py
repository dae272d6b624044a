# SPDX-License-Identifier: Apache-2.0
"""`overhop store import` into real servers."""

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from overhop.cli import main
from store.appender import Appender
from store.influxdb.admin import init
from store.influxdb.http import Connection
from store.influxdb.writing import line_writer
from store.schema import EVENT, HOP_10S
from tests.servers import Server, victoriametrics
from tests.stores.conftest import connected
from tests.stores.gate import Gate, gate
from tests.stores.test_init import set_retention
from tests.unit.store.hops import Row, batch
from tests.unit.store.rows import events

S = 1_000_000_000
DAY_S = 86_400
ROWS = 12_000


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of nine days ago, three hours, two and one minute: ROWS summaries of two nodes and two events each."""
    path = tmp_path_factory.mktemp("embedded") / "s"
    now_ns = time.time_ns()
    rows: list[Row] = [
        {"kind": "rx", "count": 1, "src_workload": f"w{number % 400}"} for number in range(ROWS)
    ]
    for age_s in (9 * DAY_S, 10_800, 7_200, 60):
        for node in ("n1", "n2"):
            with Appender(path, "c", node, clock=partial(int, now_ns - age_s * S)) as appender:
                appender.append(batch(HOP_10S, *rows))
                appender.append(events("a", "b"))
    return path


def counted(connection: Connection) -> tuple[int, int]:
    """Summaries and events."""
    [hops] = connection.influxql(connection.target.bucket(HOP_10S), ['SELECT count("count") FROM hop'])
    [said] = connection.influxql(connection.target.bucket(EVENT), ['SELECT count("state") FROM event'])
    return (int(hops[0].values[0][1]) if hops else 0), (int(said[0].values[0][1]) if said else 0)


def command(server: Server, prefix: str, source: Path, *more: str, port: int | None = None) -> list[str]:
    place = server.target if port is None else f"{server.name}://127.0.0.1:{port}/"
    token = [] if server.token_file is None else ["--store-token-file", str(server.token_file)]
    return ["store", "import", "--from", str(source), *more, "--store", f"{place}?prefix={prefix}", *token]


def test_import_twice_has_each_row_once_and_counts_what_is_too_old(
    server: Server, embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connected(server, "twice") as connection:
        init(connection)
        for _ in range(2):
            assert main(command(server, "twice", embedded, "--json")) == 0
            said = json.loads(capsys.readouterr().out)
            assert said["read"] == {"hop_10s": 8 * ROWS, "event": 16}
            assert said["written"] == {"hop_10s": 6 * ROWS, "event": 16}
            assert said["too_old"] == {"hop_10s": 2 * ROWS, "event": 0}
            assert said["rejected"] == {"hop_10s": 0, "event": 0}
            assert (said["problems"], said["continued"]) == ([], False)
            assert counted(connection) == (6 * ROWS, 16)
    assert list((embedded / "imports").iterdir()) == []


def shut_after(opening: Gate, argv: list[str]) -> None:
    """Run the import until the gate is shut, and kill it there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "overhop", *argv], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        assert opening.shut.wait(60), process.poll()
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


def test_import_killed_in_the_middle_goes_on_and_has_each_row_once(
    server: Server, embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connected(server, "killed") as connection, gate(server.url, writes=9) as opening:
        init(connection)
        argv = command(server, "killed", embedded, "--json", port=opening.port)
        shut_after(opening, argv)
        assert 0 < counted(connection)[0] < 6 * ROWS
        assert len(list((embedded / "imports").glob("*.json"))) == 1
        opening.open()
        assert main(argv) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["continued"]
        assert said["read"]["hop_10s"] < 8 * ROWS
        assert counted(connection) == (6 * ROWS, 16)
    assert list((embedded / "imports").iterdir()) == []


def test_import_begun_with_later_rows_is_no_progress_for_earlier_ones(
    server: Server, embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connected(server, "later") as connection, gate(server.url, writes=6) as opening:
        init(connection)
        shut_after(opening, command(server, "later", embedded, "--since", "1h", port=opening.port))
        opening.open()
        assert main(command(server, "later", embedded, "--json", port=opening.port)) == 0
        assert not json.loads(capsys.readouterr().out)["continued"]
        assert counted(connection) == (6 * ROWS, 16)


def test_import_of_a_part_has_its_rows_only(server: Server, embedded: Path) -> None:
    with connected(server, "part") as connection:
        init(connection)
        assert main(command(server, "part", embedded, "--since", "150m", "--until", "1h")) == 0
        assert counted(connection) == (2 * ROWS, 4)


def test_import_keeps_what_a_bucket_keeps_longer(
    servers: dict[str, Server], embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = servers["influxdb2"]
    with connected(server, "long") as connection:
        init(connection)
        set_retention(connection, "long_10s", 30 * DAY_S)
        assert main(command(server, "long", embedded, "--json")) == 0
        assert json.loads(capsys.readouterr().out)["too_old"]["hop_10s"] == 0
        assert counted(connection) == (8 * ROWS, 16)


def test_import_says_what_became_of_the_rows(
    servers: dict[str, Server], embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connected(servers["influxdb1"], "said") as connection:
        init(connection)
    assert main(command(servers["influxdb1"], "said", embedded)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "hop_10s: 96,000 rows read, 72,000 written, 24,000 older than they are kept",
        "event: 16 rows read, 16 written",
    ]


def test_import_without_buckets_fails_and_says_what_to_do(
    server: Server, embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(server, "absent", embedded)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "overhop store init" in said.err


def test_import_into_a_newer_schema_is_refused(
    servers: dict[str, Server], embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = servers["influxdb1"]
    with connected(server, "newer") as connection:
        init(connection)
        writer = line_writer(connection.target, connection.secret)
        writer.write(EVENT, [b"schema version=2i 7258118400000000000"])
        writer.close()
        assert main(command(server, "newer", embedded)) == 1
        assert "it has schema 2, this overhop knows up to 1" in capsys.readouterr().err
        assert counted(connection) == (0, 0)


def test_import_of_rows_that_the_server_refuses_sets_them_aside(
    servers: dict[str, Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = servers["influxdb2"]
    with connected(server, "refused") as connection:
        init(connection)
        writer = line_writer(connection.target, connection.secret)
        writer.write(EVENT, [f'event,cluster=c,node=n1,what=agent since="text" {time.time_ns()}'.encode()])
        writer.close()
        with Appender(tmp_path / "s", "c", "n1") as appender:
            appender.append(events("a", "b", "c"))
        assert main(command(server, "refused", tmp_path / "s", "--json")) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["read"], said["written"], said["rejected"]) == ({"event": 3}, {"event": 0}, {"event": 3})
    aside = [json.loads(line) for line in (tmp_path / "s/rejected/import.jsonl").read_text().splitlines()]
    assert [each["table"] for each in aside] == ["event"] * 3


def test_import_into_victoriametrics_brings_what_it_takes(
    embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with victoriametrics(tmp_path) as server:
        assert main(["store", "import", "--from", str(embedded), "--store", server.target, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == {"hop_10s": 6 * ROWS}


@pytest.mark.parametrize("place", ["none", "DIRECTORY"])
def test_import_into_no_server_is_wrong_usage(
    place: str, embedded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = str(tmp_path) if place == "DIRECTORY" else place
    assert main(["store", "import", "--from", str(embedded), "--store", where]) == 2
    assert capsys.readouterr().err.startswith("overhop: ")


def test_import_of_what_is_no_store_fails(
    servers: dict[str, Server], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connected(servers["influxdb1"], "none") as connection:
        init(connection)
    assert main(command(servers["influxdb1"], "none", tmp_path / "nothing")) == 1
    assert "no store is here" in capsys.readouterr().err
