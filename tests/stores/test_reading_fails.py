# SPDX-License-Identifier: Apache-2.0
"""Questions to a server that does not answer as it should: one clear line, and never half of the rows."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overhop.cli import main
from store.influxdb.admin import init
from store.influxdb.http import Connection
from store.influxdb.reading import InfluxStore
from store.influxdb.target import Secret, parse_target
from store.query import Span, StoreError, Where
from store.schema import SCHEMA_VERSION
from tests.servers import Server, free_port, influxdb1
from tests.stores.conftest import connected
from tests.stores.fake_server import Answer, fake_server

SPAN = Span(0, 1 << 60)
ROW = ["time", "count", "min_ns", "max_ns", "hist"]


def said_by(server: Server, capsys: pytest.CaptureFixture[str], *more: str, token: str | None = None) -> str:
    """What `overhop hops` says of it, on standard error."""
    place = ["--store", f"{server.target}{more[0] if more else ''}"]
    if server.token_file:
        if token is not None:
            other = server.directory / "other-token"
            other.write_text(token)
            other.chmod(0o600)
            place += ["--store-token-file", str(other)]
        else:
            place += ["--store-token-file", str(server.token_file)]
    assert main(["hops", "--since", "1h", *place]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1, said.err
    return said.err


def test_hops_of_buckets_that_are_not_there_say_what_to_do(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_by(server, capsys, "?prefix=nobody-made-it")
    assert "overhop store init" in said


def test_hops_with_a_wrong_token_say_so_and_do_not_show_it(
    servers: dict[str, Server], capsys: pytest.CaptureFixture[str]
) -> None:
    said = said_by(servers["influxdb2"], capsys, token="s3cr3t-and-wrong")
    assert "does not accept the token" in said
    assert "s3cr3t" not in said


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Server]:
    """An InfluxDB 1 where one must log in."""
    with influxdb1(tmp_path, has_users=True) as server:
        yield server


def test_hops_with_a_wrong_password_say_so(guarded: Server, capsys: pytest.CaptureFixture[str]) -> None:
    said = said_by(guarded, capsys, token="s3cr3t-and-wrong")
    assert "does not accept user and password" in said
    assert "s3cr3t" not in said


def test_hops_of_a_newer_schema_are_refused(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with connected(server, "newer") as connection:
        init(connection)
        bucket = "newer_events"
        newer = f"schema version={SCHEMA_VERSION + 1}i 7258118400000000000"
        path = f"/write?db={bucket}&precision=ns"
        assert connection.request("POST", path, body=newer.encode()).status == 204
    said = said_by(server, capsys, "?prefix=newer")
    assert f"it has schema {SCHEMA_VERSION + 1}" in said


def test_hops_of_nobody_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hops", "--since", "1h", "--store", f"influxdb1://127.0.0.1:{free_port()}/"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "nobody answers" in line


# ---- answers that no InfluxDB gives, or that end early ----------------------------------------------


def blocks(*values: list[object], **more: object) -> bytes:
    """A piece of an answer with one series."""
    series = {"name": "hop", "columns": ROW, "values": list(values)}
    return json.dumps({"results": [{"statement_id": 0, "series": [series], **more}]}).encode() + b"\n"


NO_VERSION = b'{"results":[{"statement_id":0}]}\n'
GOOD = blocks([1_700_000_000_000_000_000, 3, 9_000, 12_000, "/QECCQE"])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"<html>a portal</html>", "is not InfluxDB's"),
        (b'{"results": [{"statement_id": 0, "series": [{"values": 7}]}]}', "is not InfluxDB's"),
        (GOOD + b'{"results":[{"statement_id":0,"error":"query timeout"}]}\n', "query timeout"),
        (GOOD + b"\x00\xff\n", "is not InfluxDB's"),
        (blocks(["never", 3, 9_000, 12_000, "x"]), "a field that is not ours"),
        (blocks([1, "many", 9_000, 12_000, "x"]), "a field that is not ours"),
        (blocks([1, -3, 9_000, 12_000, "x"]), "a field that is not ours"),
        (blocks([1, 3, 9_000, 12_000, 77]), "a field that is not ours"),
        (blocks([1, 3]), "a field that is not ours"),
    ],
)
def test_answer_that_is_no_good_gives_no_rows(answer: bytes, words: str) -> None:
    def given(_method: str, _path: str) -> Answer:
        is_version = b"version" in fake.bodies[-1]
        return 200, {}, NO_VERSION if is_version else answer

    with fake_server(given) as fake:
        store = InfluxStore(Connection(parse_target(f"influxdb2://{fake.place}/"), Secret("s3cr3t")))
        with pytest.raises(StoreError, match=words):
            store.summaries(SPAN, Where(), "hop_10s", ("time", "count", "hist"))
        store.close()


def test_server_that_falls_silent_within_an_answer_is_not_waited_for() -> None:
    with half_an_answer(then=lambda peer: peer.recv(1)) as port:
        store = InfluxStore(Connection(parse_target(f"influxdb1://127.0.0.1:{port}/"), None, timeout_s=0.5))
        with pytest.raises(StoreError, match="nobody answers"):
            store.summaries(SPAN, Where(), "hop_10s", ("time", "count"))
        store.close()


def test_answer_that_is_cut_off_gives_no_rows() -> None:
    with half_an_answer(then=lambda _: None) as port:
        store = InfluxStore(Connection(parse_target(f"influxdb1://127.0.0.1:{port}/"), None, timeout_s=5))
        with pytest.raises(StoreError, match="nobody answers"):
            store.summaries(SPAN, Where(), "hop_10s", ("time", "count"))
        store.close()


@contextmanager
def half_an_answer(then: Callable[[socket.socket], object]) -> Iterator[int]:
    """A port of loopback: who asks there for the version gets it, then a good row and not the rest."""

    def serve() -> None:
        peer, _ = listening.accept()
        with peer:
            for answer, missing in ((NO_VERSION, 0), (GOOD, 1000)):
                peer.recv(65536)
                length = len(answer) + missing
                peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (length, answer))
            then(peer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield int(listening.getsockname()[1])
        thread.join(10)
        assert not thread.is_alive()
