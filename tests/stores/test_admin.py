# SPDX-License-Identifier: Apache-2.0
"""init, check, usage and import against real servers, and servers that are not what they should be."""

import json
import socket
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from overhop.cli import main
from store.appender import Appender
from store.influxdb.admin import Done, buckets, init
from store.influxdb.asking import schema_version
from store.influxdb.checks import Check, State, check_server, clock_check
from store.influxdb.http import Connection
from store.influxdb.target import Secret, parse_target
from store.influxdb.usage import BucketUsage, projection, usage
from store.influxdb.writing import line_writer
from store.query import StoreError
from store.schema import EVENT, HOP_10S, TABLES
from tests.servers import Server, influxdb1, victoriametrics
from tests.stores.conftest import connected
from tests.stores.fake_server import Answer, fake_server
from tests.unit.store.hops import Row, batch
from tests.unit.store.rows import events

S = 1_000_000_000
DAYS = {"10s": 7, "1m": 30, "10m": 400, "samples": 3, "events": 400}
TOKEN = "s3cr3t-t0k3n"
NOBODY = "influxdb2://127.0.0.1:1/"
COMMANDS = (
    ("store", "init"),
    ("store", "check", "--json"),
    ("store", "usage"),
    ("hops", "--since", "1h"),
    ("trace", "1" * 32),
)


@pytest.fixture(params=["influxdb2", "influxdb1"])
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    return servers[request.param]


def checks_of(connection: Connection) -> dict[str, Check]:
    return {check.name: check for check in check_server(connection, "n1")}


def states(checks: dict[str, Check]) -> dict[str, State]:
    return {name: check.state for name, check in checks.items()}


# ---- init ------------------------------------------------------------------------------------------


def test_init_makes_five_buckets_with_their_retention_and_is_idempotent(server: Server) -> None:
    with connected(server, "init") as connection:
        assert init(connection) == [
            Done(f"init_{name}", "created", days * 86_400) for name, days in DAYS.items()
        ]
        found = {bucket.name: bucket.retention_s for bucket in buckets(connection)}
        assert found == {f"init_{name}": days * 86_400 for name, days in DAYS.items()}
        assert [done.what for done in init(connection)] == ["unchanged"] * 5
        assert schema_version(connection) == 1


def test_init_lengthens_a_retention_and_leaves_a_longer_one(server: Server) -> None:
    with connected(server, "longer") as connection:
        init(connection)
        if server.name == "influxdb1":
            connection.influxql("", ['ALTER RETENTION POLICY "autogen" ON "longer_10s" DURATION 1d'])
            connection.influxql("", ['ALTER RETENTION POLICY "autogen" ON "longer_1m" DURATION 900d'])
        else:
            for bucket in buckets(connection):
                seconds = {"longer_10s": 86_400, "longer_1m": 900 * 86_400}.get(bucket.name)
                if seconds:
                    rules = [{"type": "expire", "everySeconds": seconds}]
                    body = json.dumps({"retentionRules": rules}).encode()
                    assert (
                        connection.request("PATCH", f"/api/v2/buckets/{bucket.id}", body=body).status == 200
                    )
        done = {each.bucket: each for each in init(connection)}
        assert done["longer_10s"] == Done("longer_10s", "retention changed", 7 * 86_400, 86_400)
        assert done["longer_1m"] == Done("longer_1m", "unchanged", 900 * 86_400)


def test_init_refuses_a_newer_schema(server: Server) -> None:
    with connected(server, "newer") as connection:
        init(connection)
        writer = line_writer(connection.target, connection.secret)
        writer.write(EVENT, [f"schema version=2i {time.time_ns() + S}".encode()])
        writer.close()
        with pytest.raises(StoreError, match="it has schema 2, this overhop knows up to 1"):
            init(connection)
        checks = checks_of(connection)
        assert checks["schema"].state is State.FAILED


# ---- check -----------------------------------------------------------------------------------------


def test_check_of_a_good_server_is_ok_and_leaves_no_probe(server: Server) -> None:
    with connected(server, "good") as connection:
        init(connection)
        checks = checks_of(connection)
        assert set(states(checks).values()) == {State.OK}
        assert list(checks) == [
            "reachable",
            "version",
            "clock",
            "token",
            *(f"bucket good_{n}" for n in DAYS),
            "schema",
        ]
        assert "kept 7 days" in checks["bucket good_10s"].seen
        for table in TABLES:
            [found] = connection.influxql(connection.target.bucket(table), ["SELECT * FROM overhop_probe"])
            assert found == []


def test_check_without_buckets_says_what_to_do(server: Server) -> None:
    with connected(server, "nothing") as connection:
        check = checks_of(connection)["bucket nothing_10s"]
        assert check == Check(
            "bucket nothing_10s",
            State.FAILED,
            "is missing, or the token may not see it",
            "run overhop store init",
        )


def test_check_of_a_wrong_token_fails(servers: dict[str, Server]) -> None:
    target = parse_target(servers["influxdb2"].target)
    checks = checks_of(Connection(target, Secret(TOKEN)))
    assert checks["token"].state is State.FAILED
    assert "does not accept the token" in checks["token"].seen
    assert "bucket overhop_10s" not in checks


def limited_token(server: Server, connection: Connection, action: str) -> str:
    """A token that may only read, or only write, our buckets."""
    found = json.loads(connection.request("GET", "/api/v2/orgs").data)
    org = next(each["id"] for each in found["orgs"])
    rights = [
        {"action": action, "resource": {"type": "buckets", "id": bucket.id, "orgID": org}}
        for bucket in buckets(connection)
    ]
    body = json.dumps({"orgID": org, "permissions": rights}).encode()
    answer = connection.request("POST", "/api/v2/authorizations", body=body)
    assert answer.status == 201, answer.data
    return str(json.loads(answer.data)["token"])


@pytest.mark.parametrize(
    ("action", "state", "words"),
    [("write", State.WARNING, "cannot be read with this token"), ("read", State.FAILED, "cannot be written")],
)
def test_check_of_a_token_with_half_of_the_rights(
    servers: dict[str, Server], action: str, state: State, words: str
) -> None:
    server = servers["influxdb2"]
    with connected(server, "rights") as connection:
        init(connection)
        token = limited_token(server, connection, action)
        with Connection(connection.target, Secret(token)) as limited:
            check = checks_of(limited)["bucket rights_10s"]
    assert check.state is state
    assert words in check.seen
    assert token not in check.seen


def test_check_of_a_user_of_influxdb1(tmp_path: Path) -> None:
    with influxdb1(tmp_path, has_users=True) as server:
        with connected(server) as connection:
            init(connection)
            assert set(states(checks_of(connection)).values()) == {State.OK}
        nobody = Connection(parse_target(server.target), Secret(TOKEN))
        checks = checks_of(nobody)
        assert checks["token"].state is State.FAILED
        assert "does not accept user and password" in checks["token"].seen


def test_check_of_victoriametrics_writes_only(tmp_path: Path) -> None:
    with victoriametrics(tmp_path) as server, connected(server) as connection:
        assert init(connection) == []
        checks = checks_of(connection)
        assert set(states(checks).values()) == {State.OK}
        assert "bucket overhop_10s" in checks
        assert "bucket overhop_1m" not in checks


@pytest.mark.parametrize(
    ("scheme", "version", "words"),
    [
        ("influxdb2", "1.8.10", "InfluxDB 1.8.10, not 2.x"),
        ("influxdb2", "v3.0.0", "InfluxDB v3.0.0, not 2.x"),
        ("influxdb1", "1.5.4", "InfluxDB 1.5.4, not 1.6 to 1.x"),
        ("influxdb1", "v2.7.1", "InfluxDB v2.7.1, not 1.6 to 1.x"),
        ("influxdb1", "", "it is no InfluxDB"),
        ("victoriametrics", "1.8.10", "InfluxDB 1.8.10"),
    ],
)
def test_check_of_another_version_names_it(scheme: str, version: str, words: str) -> None:
    def answer(_method: str, _path: str) -> Answer:
        return 204, {"X-Influxdb-Version": version} if version else {}, b""

    with fake_server(answer) as fake:
        target = parse_target(f"{scheme}://{fake.url.removeprefix('http://')}/")
        checks = checks_of(Connection(target, Secret(TOKEN)))
    assert (checks["version"].state, checks["version"].seen) == (State.FAILED, words)
    assert list(checks) == ["reachable", "version", "clock"]


def test_check_of_a_server_an_hour_behind_fails_its_clock() -> None:
    def answer(_method: str, _path: str) -> Answer:
        return 204, {"X-Influxdb-Version": "1.8.10", "Date": formatdate(time.time() - 3600, usegmt=True)}, b""

    with fake_server(answer) as fake:
        target = parse_target(f"influxdb1://{fake.url.removeprefix('http://')}/")
        check = checks_of(Connection(target, None))["clock"]
    assert check.state is State.FAILED
    assert check.seen in ("the server's is 3,599 s behind ours", "the server's is 3,600 s behind ours")


@pytest.mark.parametrize(
    ("server_s", "state"),
    [
        (100, State.OK),
        (98, State.OK),
        (96, State.WARNING),
        (104, State.WARNING),
        (30, State.FAILED),
        (170, State.FAILED),
    ],
)
def test_clock_check_allows_for_the_second_that_is_said(server_s: int, state: State) -> None:
    assert clock_check(server_s * S, 100 * S, 100 * S + 1).state is state


def test_check_of_nobody_is_one_failed_line() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    [check] = check_server(Connection(parse_target(f"influxdb1://127.0.0.1:{port}/"), None), "n1")
    assert check.state is State.FAILED
    assert "nobody answers: [Errno 111] Connection refused: is it running" in check.seen


def test_check_of_a_server_that_never_answers_ends() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        target = parse_target(f"influxdb1://127.0.0.1:{listener.getsockname()[1]}/")
        [check] = check_server(Connection(target, None, timeout_s=0.3), "n1")
    assert check.state is State.FAILED
    assert "timed out" in check.seen


# ---- usage -----------------------------------------------------------------------------------------


def test_usage_counts_series_nodes_and_rows(server: Server) -> None:
    with connected(server, "used") as connection:
        init(connection)
        writer = line_writer(connection.target, connection.secret)
        now_ns = time.time_ns()
        lines = [f"hop,node=n{node},kind=k{kind} count=1i" for node in (1, 2) for kind in (1, 2, 3)]
        writer.write(HOP_10S, [f"{line} {now_ns - 60 * S}".encode() for line in lines])
        writer.write(HOP_10S, [f"{line} {now_ns - 7200 * S}".encode() for line in lines])
        writer.close()
        used = {each.table: each for each in usage(connection)}["hop_10s"]
    assert (used.bucket, used.series, used.nodes) == ("used_10s", 6, 2)
    assert (used.rows_hour, used.rows_day, used.rows) == (6, 12, 12)


def test_projection_is_the_last_hour_for_as_long_as_rows_are_kept() -> None:
    used = BucketUsage("hop_10s", "b", 10, 2, rows_hour=100, rows_day=500, size_bytes=5000, rows=1000)
    found = projection(used, 7 * 86_400)
    assert (found.rows_per_day, found.rows, found.size_bytes) == (2400, 16_800, 84_000)
    assert (found.per_node_rows_per_day, found.per_node_bytes, found.per_node_series) == (1200, 42_000, 5)


# ---- import ----------------------------------------------------------------------------------------


@pytest.fixture
def embedded(tmp_path: Path) -> Path:
    path = tmp_path / "embedded"
    now_ns = time.time_ns()
    for age_s in (9 * 86_400, 7200, 60):
        with Appender(path, "c", "n1", clock=lambda age_s=age_s: now_ns - age_s * S) as appender:  # type: ignore[misc]
            rows: list[Row] = [
                {"kind": "rx", "count": 1, "src_workload": f"w{number}"} for number in range(3000)
            ]
            appender.append(batch(HOP_10S, *rows))
            appender.append(events("a", "b"))
    return path


def counted(connection: Connection, prefix: str) -> tuple[int, int]:
    [hops] = connection.influxql(f"{prefix}_10s", ['SELECT count("count") FROM hop'])
    [said] = connection.influxql(f"{prefix}_events", ['SELECT count("state") FROM event'])
    return int(hops[0].values[0][1]), int(said[0].values[0][1])


def run(server: Server, prefix: str, *arguments: str) -> tuple[str, ...]:
    token = ("--store-token-file", str(server.token_file)) if server.token else ()
    return (*arguments, "--store", f"{server.target}?prefix={prefix}", *token)


def test_import_twice_has_each_row_once_and_counts_what_is_too_old(
    server: Server, embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connected(server, "twice") as connection:
        init(connection)
        for _ in range(2):
            assert main(run(server, "twice", "store", "import", "--from", str(embedded), "--json")) == 0
            said = json.loads(capsys.readouterr().out)
            assert said["read"] == {"hop_10s": 9000, "event": 6}
            assert said["written"] == {"hop_10s": 6000, "event": 6}
            assert (said["too_old"], said["rejected"]["hop_10s"]) == ({"hop_10s": 3000, "event": 0}, 0)
            assert counted(connection, "twice") == (6000, 6)
    assert list((embedded / "imports").iterdir()) == []


def test_import_killed_in_the_middle_goes_on_and_has_each_row_once(
    server: Server, embedded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connected(server, "killed") as connection:
        init(connection)
        progress = embedded / "imports"
        command = run(server, "killed", "store", "import", "--from", str(embedded))
        argv = [sys.executable, "-m", "overhop", *command]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 30
        while not (progress.exists() and list(progress.glob("*.json"))) and process.poll() is None:
            assert time.monotonic() < deadline_s
        process.kill()
        process.wait()
        assert main(command) == 0
        assert counted(connection, "killed") == (6000, 6)


# ---- the command line ------------------------------------------------------------------------------


def test_commands_against_bad_servers_never_show_the_token(
    servers: dict[str, Server], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Wrong token, missing bucket, nobody, a server that repeats what it was sent."""
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")

    def echo(_method: str, _path: str) -> Answer:
        return 400, {"X-Influxdb-Version": "v2.7.0"}, json.dumps({"message": f"bad token {TOKEN}"}).encode()

    with fake_server(echo) as fake:
        places = (
            servers["influxdb2"].target,
            f"influxdb2://{fake.url.removeprefix('http://')}/",
            "influxdb2://127.0.0.1:1/",
        )
        for place in places:
            for command in (
                ("store", "init"),
                ("store", "check", "--json"),
                ("store", "usage"),
                ("hops", "--since", "1h"),
            ):
                code = main([*command, "--store", place, "--store-token-file", str(token_file)])
                assert code == 1, (command, place)
        assert f"Token {TOKEN}" in fake.tokens
    said = capfd.readouterr()
    assert TOKEN not in said.out + said.err
    assert "Traceback" not in said.err
    assert "[token]" in said.err


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff\xfe", b"x" * 5000])
def test_token_file_without_a_token_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    token_file = tmp_path / "token"
    token_file.write_bytes(content)
    arguments = [
        "store",
        "check",
        "--store",
        "influxdb2://127.0.0.1:1/",
        "--store-token-file",
        str(token_file),
    ]
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"overhop: token file {token_file}: it holds no token")
    assert said.count("\n") == 1


def test_token_file_that_is_not_there_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "store",
        "check",
        "--store",
        "influxdb2://127.0.0.1:1/",
        "--store-token-file",
        "/nonexistent",
    ]
    assert main(arguments) == 1
    assert capsys.readouterr().err == (
        "overhop: token file /nonexistent: No such file or directory: look at its path and its rights\n"
    )


def test_check_of_an_embedded_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Appender(tmp_path / "s", "c", "n1") as appender:
        appender.append(events("a"))
    assert main(["store", "check", "--store", str(tmp_path / "s"), "--json"]) == 0
    checks = {each["name"]: each["state"] for each in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["directory"] == checks["rights"] == "ok"
    assert checks["writer"] == "warning"
    assert main(["store", "check", "--store", str(tmp_path / "none")]) == 1
    assert main(["store", "usage", "--store", str(tmp_path / "s"), "--json"]) == 0
    used = {each["table"]: each for each in json.loads(capsys.readouterr().out.splitlines()[-1])["buckets"]}
    assert (used["event"]["rows"], used["event"]["nodes"]) == (1, 1)
    assert used["event"]["size_bytes"] == sum(
        each.stat().st_size for each in (tmp_path / "s/event/n1").iterdir()
    )


def test_init_of_an_embedded_store_makes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "init", "--store", str(tmp_path / "a" / "s")]) == 0
    assert (tmp_path / "a" / "s" / "version").exists()
    assert capsys.readouterr().out == f"{tmp_path / 'a' / 's'}: ready\n"
