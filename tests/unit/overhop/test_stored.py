# SPDX-License-Identifier: Apache-2.0
"""Opening whatever store the configuration names."""

import json
from pathlib import Path

import pytest

from overhop import cli
from overhop.config import StoreSection
from overhop.errors import UsageError
from overhop.stored import Place, opened, place_of
from store.appender import Appender
from store.embedded import EmbeddedStore
from store.influxdb.reading import InfluxStore
from store.influxdb.target import parse_target
from store.query import StoreError
from tests.stores.fake_server import fake_server

TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "hunter2-t0k3n"


def test_place_of_the_section_has_what_it_takes_to_get_in() -> None:
    target = parse_target("influxdb2://h/team")
    place = place_of(StoreSection(url=target, token_file=Path("/t"), ca_file=Path("/ca")))
    assert (place.at, place.token_file, place.ca_file) == (target, Path("/t"), Path("/ca"))
    assert str(place) == "influxdb2://h:8086/team"


def test_opened_directory_is_the_embedded_store(tmp_path: Path) -> None:
    with Appender(tmp_path / "s", "c", "n1"):
        pass
    with opened(Place(tmp_path / "s")) as store:
        assert isinstance(store, EmbeddedStore)


def test_opened_server_is_read_by_influxql() -> None:
    with opened(Place(parse_target("influxdb1://127.0.0.1:1/"))) as store:
        assert isinstance(store, InfluxStore)


def test_opened_none_says_what_to_give() -> None:
    with pytest.raises(UsageError, match="give --store DIR or a server's URL"), opened(Place(None)):
        pass


def test_opened_server_that_is_only_written_says_so() -> None:
    place = Place(parse_target("victoriametrics://h/"))
    with pytest.raises(StoreError, match=r"victoriametrics://h:8428/: it is only written"), opened(place):
        pass


def test_opened_server_whose_token_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    place = Place(parse_target("influxdb2://h/"), tmp_path / "token")
    with pytest.raises(UsageError, match=rf"token file {tmp_path}/token: No such file"), opened(place):
        pass


@pytest.mark.parametrize("command", [["hops", "--since", "5m"], ["trace", TRACE]])
def test_commands_that_a_server_refuses_say_it_in_one_line_without_the_token(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text(SECRET + "\n")
    said = json.dumps({"code": "unauthorized", "message": f"who is {SECRET}"}).encode()
    with fake_server(lambda *_: (401, {}, said)) as server:
        url = f"influxdb2://{server.url.removeprefix('http://')}/team"
        code = cli.main([*command, "--store", url, "--store-token-file", str(token)])
        assert set(server.tokens) == {f"Token {SECRET}"}
    err = capsys.readouterr().err
    assert code == 1
    assert err == (
        f"overhop: store {url}: it does not accept the token (--store-token-file): who is [token]\n"
    )


def test_hops_of_a_server_that_is_not_there_says_who_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["hops", "--since", "5m", "--store", "influxdb1://127.0.0.1:1/"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("overhop: store influxdb1://127.0.0.1:1/: nobody answers: ")
    assert err.endswith(": is it running, and is this its address?\n")


def test_hops_of_a_server_without_a_token_is_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["hops", "--store", "influxdb2://h/"]) == 2
    assert capsys.readouterr().err == (
        "overhop: --store: influxdb2 needs a token: name its file with store.token_file\n"
    )
