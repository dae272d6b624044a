# SPDX-License-Identifier: Apache-2.0
"""`overhop store check` against real servers, and servers that are not what they should be."""

import json
import socket
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from store.influxdb.admin import init
from store.influxdb.checks import Check, State, check_server
from store.influxdb.http import Connection
from store.influxdb.target import Secret, Target, parse_target
from store.influxdb.writing import line_writer
from store.schema import EVENT, HOP_10S, TABLES
from tests.servers import Server, influxdb1, victoriametrics
from tests.stores.conftest import connected
from tests.stores.fake_server import Answer, Fake, fake_server
from tests.stores.test_init import set_retention

S = 1_000_000_000
NAMES = ("10s", "1m", "10m", "samples", "events")
TOKEN = "s3cr3t-t0k3n"
GOOD = ["reachable", "version", "clock", "token", *(f"bucket good_{name}" for name in NAMES), "schema"]


def checks_of(connection: Connection) -> dict[str, Check]:
    return {check.name: check for check in check_server(connection, "n1")}


def states(checks: dict[str, Check]) -> dict[str, State]:
    return {name: check.state for name, check in checks.items()}


def probes(connection: Connection) -> list[list[object]]:
    """Those that are left in any bucket."""
    return [
        row
        for table in TABLES
        for blocks in connection.influxql(connection.target.bucket(table), ["SELECT * FROM overhop_probe"])
        for block in blocks
        for row in block.values
    ]


def at(fake: Fake, flavour: str) -> Target:
    return parse_target(f"{flavour}://{fake.place}/")


# ---- a good server ---------------------------------------------------------------------------------


def test_check_of_a_good_server_is_ok_and_leaves_no_probe(server: Server) -> None:
    with connected(server, "good") as connection:
        init(connection)
        checks = checks_of(connection)
        assert states(checks) == dict.fromkeys(GOOD, State.OK)
        assert checks["bucket good_10s"].seen.endswith(" ms, kept 7 days")
        assert probes(connection) == []


def test_check_leaves_other_points_of_the_second_where_they_are(server: Server) -> None:
    with connected(server, "other") as connection:
        init(connection)
        writer = line_writer(connection.target, connection.secret)
        now_ns = time.time_ns() // 1_000_000_000 * 1_000_000_000
        for offset_s in range(5):
            writer.write(EVENT, [f"overhop_probe,node=n2 ok=1i {now_ns + offset_s * 1_000_000_000}".encode()])
        writer.close()
        assert states(checks_of(connection))["bucket other_events"] is State.OK
        assert len(probes(connection)) == 5


def test_check_of_a_bucket_with_a_shorter_retention_warns(server: Server) -> None:
    with connected(server, "short") as connection:
        init(connection)
        set_retention(connection, "short_10s", 86_400)
        check = checks_of(connection)["bucket short_10s"]
    assert check.state is State.WARNING
    assert check.seen.endswith(", kept 1 day")
    assert check.advice == "7 days are meant: run overhop store init"


def test_check_of_a_newer_schema_fails(server: Server) -> None:
    with connected(server, "newer") as connection:
        init(connection)
        writer = line_writer(connection.target, connection.secret)
        writer.write(EVENT, [b"schema version=2i 7258118400000000000"])
        writer.close()
        check = checks_of(connection)["schema"]
    assert (check.state, check.seen) == (State.FAILED, "version 2; this overhop knows up to 1")


# ---- buckets and rights ----------------------------------------------------------------------------


def test_check_without_buckets_says_what_to_do(server: Server) -> None:
    missing = "is missing, or the token may not see it"
    with connected(server, "nothing") as connection:
        checks = checks_of(connection)
    for name in (f"bucket nothing_{name}" for name in NAMES):
        assert checks[name] == Check(name, State.FAILED, missing, "run overhop store init")
    assert checks["schema"].state is State.SKIPPED


def test_check_with_one_bucket_missing_fails_for_that_one_only(servers: dict[str, Server]) -> None:
    with connected(servers["influxdb1"], "one") as connection:
        init(connection)
        connection.influxql("", ['DROP DATABASE "one_samples"'])
        found = states(checks_of(connection))
    assert {name for name, state in found.items() if state is not State.OK} == {"bucket one_samples"}


def test_check_of_a_wrong_token_fails_there(servers: dict[str, Server]) -> None:
    checks = checks_of(Connection(parse_target(servers["influxdb2"].target), Secret(TOKEN)))
    assert list(checks) == ["reachable", "version", "clock", "token"]
    assert checks["token"].state is State.FAILED
    assert checks["token"].seen.startswith("it does not accept the token (--store-token-file)")


def test_check_without_a_token_says_where_it_goes(servers: dict[str, Server]) -> None:
    check = checks_of(Connection(parse_target(servers["influxdb2"].target), None))["token"]
    expected = "it takes nothing without a token: name its file (--store-token-file)"
    assert (check.state, check.seen) == (State.FAILED, expected)


def test_check_of_an_unknown_organisation_fails(servers: dict[str, Server]) -> None:
    server = servers["influxdb2"]
    target = parse_target(server.target.replace("/overhop", "/nobody"))
    check = checks_of(Connection(target, Secret(server.token)))["token"]
    assert check.state is State.FAILED
    assert "no such organisation" in check.seen


def limited_token(connection: Connection, action: str) -> str:
    """A token that may only read, or only write, our buckets."""
    buckets = json.loads(connection.request("GET", "/api/v2/buckets", {"limit": "100"}).data)["buckets"]
    ours = [each for each in buckets if each["name"].startswith(f"{connection.target.prefix}_")]
    rights = [
        {"action": action, "resource": {"type": "buckets", "id": each["id"], "orgID": each["orgID"]}}
        for each in ours
    ]
    body = json.dumps({"orgID": ours[0]["orgID"], "permissions": rights}).encode()
    answer = connection.request("POST", "/api/v2/authorizations", body=body)
    assert answer.status == 201, answer.data
    return str(json.loads(answer.data)["token"])


def test_check_of_a_token_that_only_writes_warns_and_leaves_no_probe(servers: dict[str, Server]) -> None:
    with connected(servers["influxdb2"], "writes") as connection:
        init(connection)
        token = limited_token(connection, "write")
        with Connection(connection.target, Secret(token)) as limited:
            checks = checks_of(limited)
        assert probes(connection) == []
    assert checks["token"].state is State.OK
    assert checks["schema"].state is State.SKIPPED
    for name in NAMES:
        check = checks[f"bucket writes_{name}"]
        assert check.state is State.WARNING
        assert "it cannot be read with this token" in check.seen
        assert check.advice == "good for agents; hops and trace need a token that reads"
        assert token not in check.seen


def test_check_of_a_token_that_only_reads_fails(servers: dict[str, Server]) -> None:
    with connected(servers["influxdb2"], "reads") as connection:
        init(connection)
        token = limited_token(connection, "read")
        with Connection(connection.target, Secret(token)) as limited:
            checks = checks_of(limited)
    for name in NAMES:
        check = checks[f"bucket reads_{name}"]
        assert check.state is State.FAILED
        assert check.seen.startswith("cannot be written: the token has not the right for that")
        assert token not in check.seen
    assert checks["schema"].state is State.OK


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An InfluxDB 1 whose users log in: reader, writer and the administrator; all have one password."""
    with influxdb1(tmp_path_factory.mktemp("guarded"), has_users=True) as server:
        with connected(server) as connection:
            init(connection)
            for name in ("reader", "writer"):
                right = "READ" if name == "reader" else "WRITE"
                statements = [f"CREATE USER {name} WITH PASSWORD '{server.token}'"]
                for table in TABLES:
                    statements.append(f'GRANT {right} ON "{connection.target.bucket(table)}" TO {name}')
                connection.influxql("", statements)
        yield server


def as_user(server: Server, name: str, password: str) -> dict[str, Check]:
    target = parse_target(server.target.replace("//admin@", f"//{name}@"))
    return checks_of(Connection(target, Secret(password)))


def test_check_of_the_administrator_of_influxdb1_is_ok(guarded: Server) -> None:
    assert set(states(as_user(guarded, "admin", guarded.token)).values()) == {State.OK}


def test_check_of_a_wrong_password_of_influxdb1_fails(guarded: Server) -> None:
    check = as_user(guarded, "admin", TOKEN)["token"]
    assert check.state is State.FAILED
    assert check.seen.startswith("it does not accept user and password")


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("writer", State.WARNING, "it cannot be read with this token"),
        ("reader", State.FAILED, "cannot be written"),
    ],
)
def test_check_of_a_user_with_half_of_the_rights(
    guarded: Server, name: str, state: State, words: str
) -> None:
    checks = as_user(guarded, name, guarded.token)
    assert checks["token"].state is State.OK
    for bucket in NAMES:
        assert checks[f"bucket overhop_{bucket}"].state is state
        assert words in checks[f"bucket overhop_{bucket}"].seen


# ---- other servers ---------------------------------------------------------------------------------


def test_check_of_victoriametrics_writes_only(tmp_path: Path) -> None:
    with victoriametrics(tmp_path) as server, connected(server) as connection:
        checks = checks_of(connection)
    names = ["reachable", "version", "retention", "clock", "token", "bucket overhop_10s"]
    assert states(checks) == dict.fromkeys(names, State.OK) | {"duplicates": State.WARNING}
    assert checks["retention"].seen == "rows are kept 31 days"


def test_victoriametrics_that_is_told_so_counts_a_row_once_that_is_sent_twice(tmp_path: Path) -> None:
    with victoriametrics(tmp_path, "-dedup.minScrapeInterval=1ms") as server, connected(server) as connection:
        assert checks_of(connection)["duplicates"].state is State.OK
        writer = line_writer(connection.target, connection.secret)
        now_ns = time.time_ns()
        for _ in range(2):
            rows = [f"hop,node=n1 count={3 + age_s}i {now_ns - age_s * S}".encode() for age_s in (60, 50)]
            writer.write(HOP_10S, rows)
        writer.close()
        connection.request("GET", "/internal/force_flush")
        query = {"query": "sum_over_time(hop_count[5m])"}
        answer = json.loads(connection.request("GET", "/api/v1/query", query).data)
    assert [series["value"][1] for series in answer["data"]["result"]] == [str(63 + 53)]


@pytest.mark.parametrize(
    ("flavour", "version", "words"),
    [
        ("influxdb2", "1.8.10", "InfluxDB 1.8.10, not 2.x"),
        ("influxdb2", "v3.0.0", "InfluxDB v3.0.0, not 2.x"),
        ("influxdb1", "1.5.4", "InfluxDB 1.5.4, not 1.6 to 1.x"),
        ("influxdb1", "v2.7.1", "InfluxDB v2.7.1, not 1.6 to 1.x"),
        ("influxdb1", "", "it is no InfluxDB"),
        ("victoriametrics", "1.8.10", "InfluxDB 1.8.10"),
    ],
)
def test_check_of_another_version_names_it_and_writes_nothing(flavour: str, version: str, words: str) -> None:
    def answer(_method: str, _path: str) -> Answer:
        return 204, {"X-Influxdb-Version": version} if version else {}, b""

    with fake_server(answer) as fake:
        checks = checks_of(Connection(at(fake, flavour), Secret(TOKEN)))
        assert {method for method, _ in fake.asked} == {"GET"}
    assert (checks["version"].state, checks["version"].seen) == (State.FAILED, words)
    assert list(checks) == ["reachable", "version", "clock"]


@pytest.mark.parametrize("flavour", ["influxdb2", "influxdb1", "victoriametrics"])
def test_check_of_a_web_server_says_that_it_is_none(flavour: str) -> None:
    with fake_server(lambda _method, _path: (200, {}, b"<html><h1>It works!</h1></html>")) as fake:
        check = checks_of(Connection(at(fake, flavour), Secret(TOKEN)))["version"]
    assert check.state is State.FAILED
    assert check.seen in ("it is no InfluxDB", "it is no VictoriaMetrics")
    assert check.advice.startswith("is this its address?")


def test_check_of_a_proxy_that_hides_its_victoriametrics_warns() -> None:
    def answer(method: str, _path: str) -> Answer:
        return (204 if method == "POST" else 401), {}, b""

    with fake_server(answer) as fake:
        checks = checks_of(Connection(at(fake, "victoriametrics"), Secret(TOKEN)))
    assert (checks["version"].state, checks["bucket overhop_10s"].state) == (State.WARNING, State.OK)


@pytest.mark.parametrize(("off_s", "way"), [(-3600, "behind"), (3600, "ahead of")])
def test_check_of_a_server_an_hour_off_fails_its_clock(off_s: int, way: str) -> None:
    def answer(_method: str, _path: str) -> Answer:
        date = formatdate(time.time() + off_s, usegmt=True)
        return 204, {"X-Influxdb-Version": "1.8.10", "Date": date}, b""

    with fake_server(answer) as fake:
        check = checks_of(Connection(at(fake, "influxdb1"), None))["clock"]
    assert check.state is State.FAILED
    assert check.seen in (f"the server's is {seconds} s {way} ours" for seconds in ("3,599", "3,600"))


def test_check_of_a_server_that_says_no_time_skips_the_clock() -> None:
    def answer(_method: str, _path: str) -> Answer:
        return 204, {"X-Influxdb-Version": "1.8.10", "Date": "yesterday"}, b""

    with fake_server(answer) as fake:
        assert checks_of(Connection(at(fake, "influxdb1"), None))["clock"].state is State.SKIPPED


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


def test_check_of_a_server_that_loses_what_it_takes_fails() -> None:
    def answer(_method: str, path: str) -> Answer:
        is_query = path.startswith("/query")
        body = b'{"results":[{"statement_id":0}]}\n' if is_query else b""
        return (200 if is_query else 204), {"X-Influxdb-Version": "1.8.10"}, body

    with fake_server(answer) as fake:
        check = checks_of(Connection(at(fake, "influxdb1"), None))["bucket overhop_10s"]
    assert (check.state, check.seen) == (State.FAILED, "a point was written and is not there")
