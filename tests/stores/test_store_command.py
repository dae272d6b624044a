# SPDX-License-Identifier: Apache-2.0
"""`overhop store` as it is typed: token files, embedded stores, spools."""

import json
from pathlib import Path

import pytest

from overhop.cli import main
from store.appender import Appender
from store.influxdb.admin import init
from tests.servers import Server
from tests.stores.conftest import connected
from tests.unit.store.rows import events

NOBODY, NOBODY_1 = "influxdb2://127.0.0.1:1/", "influxdb1://127.0.0.1:1/"


def check(*arguments: str) -> int:
    return main(["store", "check", *arguments])


def checks(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    """State and what was seen, of `check --json`."""
    found = json.loads(capsys.readouterr().out)["checks"]
    return {each["name"]: (each["state"], each["seen"]) for each in found}


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff\xfe", b"x" * 5000])
def test_token_file_without_a_token_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    token_file = tmp_path / "token"
    token_file.write_bytes(content)
    assert check("--store", NOBODY, "--store-token-file", str(token_file)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"overhop: token file {token_file}: it holds no token")
    assert said.count("\n") == 1


def test_token_file_that_is_not_there_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["store", "check"], ["hops", "--since", "1h"], ["trace", "0" * 31 + "1"]):
        assert main([*command, "--store", NOBODY, "--store-token-file", "/nonexistent"]) == 2
        assert capsys.readouterr().err == (
            "overhop: token file /nonexistent: No such file or directory: look at its path and its rights\n"
        )


@pytest.mark.parametrize("command", ["init", "check", "usage"])
def test_commands_of_no_store_are_wrong_usage(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", command, "--store", "none"]) == 2
    assert capsys.readouterr().err == (
        "overhop: store: the configuration says none: give --store DIR or a server's URL\n"
    )


def test_check_of_a_store_that_fails_is_code_1_and_lines_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check("--store", NOBODY_1) == 1
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[0] == "store influxdb1://127.0.0.1:1/"
    assert said.out.splitlines()[1].startswith("failed  reachable  nobody answers")


def test_check_of_a_good_server_is_code_0(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with connected(server, "typed") as connection:
        init(connection)
    token = [] if server.token_file is None else ["--store-token-file", str(server.token_file)]
    assert check("--store", f"{server.target}?prefix=typed", *token, "--spool", str(tmp_path), "--json") == 0
    assert {state for state, _ in checks(capsys).values()} == {"ok"}


def test_check_of_an_embedded_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Appender(tmp_path / "s", "c", "n1") as appender:
        appender.append(events("a"))
    assert check("--store", str(tmp_path / "s"), "--spool", "none", "--json") == 0
    found = checks(capsys)
    assert list(found) == ["directory", "rights", "room", "writer"]
    assert found["directory"][0] == found["rights"][0] == "ok"
    assert found["writer"] == ("warning", "none ever ran")


def test_check_of_a_directory_that_is_no_store_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("--store", str(tmp_path), "--spool", "none", "--json") == 1
    [(state, seen)] = checks(capsys).values()
    assert state == "failed"
    assert f"store {tmp_path}: no store is here" in seen


def test_check_looks_at_the_spool_if_there_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--store", NOBODY_1, "--spool", str(tmp_path / "spool"), "--json") == 1
    assert list(checks(capsys)) == ["reachable"]
    with Appender(tmp_path / "spool", "c", "n1") as appender:
        appender.append(events("a", "b"))
    assert check("--store", NOBODY_1, "--spool", str(tmp_path / "spool"), "--json") == 1
    state, seen = checks(capsys)["spool of n1"]
    assert state == "warning"
    assert seen.startswith("0 rows sent; 2 wait (")
    assert seen.endswith("; nobody sends them")
