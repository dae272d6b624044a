# SPDX-License-Identifier: Apache-2.0
"""Whatever goes wrong, and however much is asked to be said: the token is never shown."""

import base64
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from email.utils import formatdate
from pathlib import Path

import pytest

from overhop.cli import main
from store.appender import Appender
from store.influxdb.admin import init
from store.influxdb.target import parse_target
from tests.servers import Server, influxdb1, victoriametrics
from tests.stores.conftest import connected
from tests.stores.fake_server import Answer, fake_server
from tests.stores.test_check import limited_token
from tests.unit.store.rows import events

TOKEN = "s3cr3t-t0k3n"
COMMANDS: Sequence[Sequence[str]] = (
    ("store", "init"),
    ("store", "check"),
    ("store", "check", "--json"),
    ("store", "usage"),
    ("store", "usage", "--json"),
    ("store", "import", "--from", "STORE"),
    ("hops", "--since", "1h"),
    ("trace", "1" * 32),
)


def echo(_method: str, _path: str) -> Answer:
    """Repeats what it was sent, in a body and in a header."""
    said = json.dumps({"message": f"bad token {TOKEN}", "error": f"Token {TOKEN}"}).encode()
    return 400, {"X-Influxdb-Version": "v2.7.0", "X-Influxdb-Error": TOKEN}, said


def an_hour_off(_method: str, _path: str) -> Answer:
    date = formatdate(time.time() - 3600, usegmt=True)
    return 401, {"X-Influxdb-Version": "v2.7.0", "Date": date}, b'{"message":"unauthorized"}'


FAKES = {
    "version": lambda _method, _path: (204, {"X-Influxdb-Version": "v3.1.0"}, b""),
    "echo": echo,
    "clock": an_hour_off,
    "web server": lambda _method, _path: (200, {}, b"<html>" + TOKEN.encode() + b"</html>"),
    "moved": lambda _method, _path: (302, {"Location": f"http://127.0.0.1:1/?t={TOKEN}"}, b""),
    "broken": lambda _method, _path: (500, {"X-Influxdb-Version": "v2.7.0"}, TOKEN.encode()),
}


@pytest.fixture(scope="module")
def places(
    servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, tuple[str, str]]]:
    """Store and token by what is wrong."""
    with ExitStack() as stack:
        guarded = stack.enter_context(influxdb1(tmp_path_factory.mktemp("guarded"), has_users=True))
        other = stack.enter_context(victoriametrics(tmp_path_factory.mktemp("other")))
        closing = stack.enter_context(socket.socket())
        closing.bind(("127.0.0.1", 0))
        with connected(servers["influxdb2"], "limited") as connection:
            init(connection)
            limited = {action: limited_token(connection, action) for action in ("read", "write")}
        two, port = servers["influxdb2"].target, closing.getsockname()[1]
        found = {
            "wrong token": (two, TOKEN),
            "wrong password": (guarded.target, TOKEN),
            "missing buckets": (f"{two}?prefix=missing", servers["influxdb2"].token),
            "only reads": (f"{two}?prefix=limited", limited["read"]),
            "only writes": (f"{two}?prefix=limited", limited["write"]),
            "no bytes": (guarded.target.replace("influxdb1", "influxdb2").replace("admin@", ""), TOKEN),
            "victoriametrics": (other.target, TOKEN),
            "nobody": (f"influxdb2://127.0.0.1:{port}/", TOKEN),
            "nobody 1": (f"influxdb1://me@127.0.0.1:{port}/", TOKEN),
            "tls": (two.replace("influxdb2:", "influxdb2+https:"), TOKEN),
        }
        for name, answer in FAKES.items():
            fake = stack.enter_context(fake_server(answer))
            found[name] = (f"influxdb2://{fake.place}/", TOKEN)
            found[f"{name} 1"] = (f"influxdb1://me@{fake.place}/", TOKEN)
        yield found


WRONG = (
    *("wrong token", "wrong password", "missing buckets", "only reads", "only writes", "no bytes"),
    *("victoriametrics", "nobody", "nobody 1", "tls"),
    *(f"{name}{one}" for name in FAKES for one in ("", " 1")),
)


@pytest.mark.parametrize("wrong", WRONG)
def test_commands_never_show_the_token(
    wrong: str,
    places: Mapping[str, tuple[str, str]],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    place, token = places[wrong]
    token_file = tmp_path / "token"
    token_file.write_text(token + "\n")
    with Appender(tmp_path / "s", "c", "n1") as appender:
        appender.append(events("a"))
    for command in COMMANDS:
        for loud in ((), ("--debug", "--log-level", "debug")):
            given = [str(tmp_path / "s") if word == "STORE" else word for word in command]
            code = main([*loud, *given, "--store", place, "--store-token-file", str(token_file)])
            said = capfd.readouterr()
            everything = said.out + said.err
            assert everything
            assert code in (0, 1), everything
            assert "internal error" not in everything
            for secret in (token, *_encoded(place, token)):
                assert secret not in everything, (wrong, command)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path != token_file]
    assert [path for path in left if token.encode() in path.read_bytes()] == []


def _encoded(place: str, token: str) -> Iterator[str]:
    """As HTTP sends a password."""
    user = parse_target(place).user
    if user:
        yield base64.b64encode(f"{user}:{token}".encode()).decode()


def test_token_that_a_server_repeats_is_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text(TOKEN)
    with fake_server(echo) as fake:
        place = f"influxdb2://{fake.place}/"
        assert main(["store", "init", "--store", place, "--store-token-file", str(tmp_path / "token")]) == 1
        assert f"Token {TOKEN}" in fake.tokens
    assert "it does not understand: bad token [token]" in capfd.readouterr().err
