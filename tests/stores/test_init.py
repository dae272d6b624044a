# SPDX-License-Identifier: Apache-2.0
"""`overhop store init` against real servers."""

import json
import time
from pathlib import Path

import pytest

from overhop.cli import main
from store.influxdb.admin import Done, buckets, init
from store.influxdb.asking import schema_version
from store.influxdb.http import Connection
from store.influxdb.writing import line_writer
from store.query import StoreError
from store.schema import EVENT, HOP_10S
from tests.servers import Server, victoriametrics
from tests.stores.conftest import connected
from tests.stores.fake_server import fake_server

DAYS = {"10s": 7, "1m": 30, "10m": 400, "samples": 3, "events": 400}
DAY_S = 86_400


def retentions(connection: Connection) -> dict[str, int]:
    return {bucket.name: bucket.retention_s for bucket in buckets(connection)}


def set_retention(connection: Connection, name: str, seconds: int) -> None:
    """Behind overhop's back."""
    if connection.target.flavour == "influxdb1":
        hours = f"{seconds // 3600}h" if seconds else "INF"
        connection.influxql("", [f'ALTER RETENTION POLICY "autogen" ON "{name}" DURATION {hours}'])
        return
    [identifier] = [bucket.id for bucket in buckets(connection) if bucket.name == name]
    body = json.dumps({"retentionRules": [{"type": "expire", "everySeconds": seconds}]}).encode()
    assert connection.request("PATCH", f"/api/v2/buckets/{identifier}", body=body).status == 200


def test_init_makes_five_buckets_with_their_retention_and_is_idempotent(server: Server) -> None:
    with connected(server, "init") as connection:
        assert init(connection) == [
            Done(f"init_{name}", "created", days * DAY_S) for name, days in DAYS.items()
        ]
        assert retentions(connection) == {f"init_{name}": days * DAY_S for name, days in DAYS.items()}
        again = init(connection)
        assert again == [Done(f"init_{name}", "unchanged", days * DAY_S) for name, days in DAYS.items()]
        assert schema_version(connection) == 1


def test_init_lengthens_a_retention_and_leaves_a_longer_one(server: Server) -> None:
    with connected(server, "longer") as connection:
        init(connection)
        set_retention(connection, "longer_10s", DAY_S)
        set_retention(connection, "longer_1m", 900 * DAY_S)
        set_retention(connection, "longer_samples", 0)
        done = {each.bucket: each for each in init(connection)}
        assert done["longer_10s"] == Done("longer_10s", "retention changed", 7 * DAY_S, DAY_S)
        assert done["longer_1m"] == Done("longer_1m", "unchanged", 900 * DAY_S)
        assert done["longer_samples"] == Done("longer_samples", "unchanged", 0)
        found = retentions(connection)
        assert (found["longer_10s"], found["longer_1m"], found["longer_samples"]) == (
            7 * DAY_S,
            900 * DAY_S,
            0,
        )


def test_init_again_leaves_rows_where_they_are(server: Server) -> None:
    with connected(server, "rows") as connection:
        init(connection)
        writer = line_writer(connection.target, connection.secret)
        writer.write(HOP_10S, [f"hop,node=n1 count=1i {time.time_ns()}".encode()])
        writer.close()
        init(connection)
        [found] = connection.influxql("rows_10s", ["SELECT count(*) FROM hop"])
        assert found[0].values[0][1] == 1


def test_init_twice_has_one_point_of_the_version_that_no_retention_reaches(server: Server) -> None:
    with connected(server, "version") as connection:
        init(connection)
        init(connection)
        [found] = connection.influxql("version_events", ["SELECT version FROM schema"])
        assert [block.values for block in found] == [[[7_258_118_400_000_000_000, 1]]]


def test_init_of_a_newer_schema_is_refused_before_anything_is_changed(server: Server) -> None:
    with connected(server, "newer") as connection:
        init(connection)
        set_retention(connection, "newer_10s", DAY_S)
        writer = line_writer(connection.target, connection.secret)
        writer.write(EVENT, [b"schema version=2i 7258118400000000000"])
        writer.close()
        with pytest.raises(StoreError, match="it has schema 2, this overhop knows up to 1: use the overhop"):
            init(connection)
        assert retentions(connection)["newer_10s"] == DAY_S
        assert schema_version(connection) == 2


def test_init_says_what_it_did(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--store", f"{server.target}?prefix=said"]
    if server.token_file:
        place += ["--store-token-file", str(server.token_file)]
    assert main(["store", "init", *place]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "said_10s: created, kept 7 days",
        "said_1m: created, kept 30 days",
        "said_10m: created, kept 400 days",
        "said_samples: created, kept 3 days",
        "said_events: created, kept 400 days",
    ]
    with connected(server, "said") as connection:
        set_retention(connection, "said_10s", 2 * DAY_S)
    assert main(["store", "init", *place]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [
        "said_10s: retention changed, kept 7 days (was 2 days)",
        "said_1m: unchanged, kept 30 days",
    ]


def test_init_of_victoriametrics_says_that_there_is_nothing_to_make(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with victoriametrics(tmp_path) as server:
        assert main(["store", "init", "--store", server.target]) == 0
        twice = "a row that is sent again counts twice: start it with -dedup.minScrapeInterval=1ms"
        expected = f"nothing to make in VictoriaMetrics; rows are kept 31 days; {twice}\n"
        assert capsys.readouterr().out == expected


def test_init_of_victoriametrics_that_keeps_rows_too_briefly_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    metrics = b'vm_app_version{short_version="v1.79.5"} 1\nflag{name="retentionPeriod", value="1d"} 1\n'
    with fake_server(lambda _method, _path: (200, {}, metrics)) as fake:
        assert main(["store", "init", "--store", f"victoriametrics://{fake.place}/"]) == 0
    said = capsys.readouterr().out
    expected = "rows are kept 1 day: start it with -retentionPeriod=7d or more"
    assert said == f"nothing to make in VictoriaMetrics; {expected}\n"


@pytest.mark.parametrize("answer", [(200, {}, b"<html>It works!</html>")])
def test_init_of_what_is_no_victoriametrics_fails(
    answer: tuple[int, dict[str, str], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    with fake_server(lambda _method, _path: answer) as fake:
        assert main(["store", "init", "--store", f"victoriametrics://{fake.place}/"]) == 1
    assert "it is no VictoriaMetrics: is this its address?" in capsys.readouterr().err


def test_init_of_an_embedded_store_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "init", "--store", str(tmp_path / "a" / "s")]) == 0
    assert (tmp_path / "a" / "s" / "version").exists()
    assert capsys.readouterr().out == f"{tmp_path / 'a' / 's'}: ready\n"
