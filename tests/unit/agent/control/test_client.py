# SPDX-License-Identifier: Apache-2.0
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.control import client
from agent.control.client import ControllerAddress, ControllerClient, ControllerError, Reply
from tests.unit.agent.control.fake_controller import Asked, Said, fake_controller


def asked_once(address: ControllerAddress) -> Reply:
    with closing(ControllerClient(address)) as one:
        return one.request("GET", "/v1/x")


def test_answer_comes_with_its_etag() -> None:
    with fake_controller(lambda _: Said(200, b"{}", {"ETag": '"x"'})) as address:
        reply = asked_once(address)
    assert (reply.status, reply.etag, reply.body) == (200, '"x"', b"{}")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"detail": "send the inventory"}', "controller: 409: send the inventory"),
        (b"<html>", "controller: 409: without a reason"),
        (b'{"detail": 5}', "controller: 409: without a reason"),
        (b"[" * 100_000, "controller: 409: without a reason"),
    ],
)
def test_refusal_is_an_error_with_its_reason(body: bytes, said: str) -> None:
    with fake_controller(lambda _: Said(409, body)) as address, pytest.raises(ControllerError) as caught:
        asked_once(address)
    assert caught.value.status == 409
    assert str(caught.value) == said


def test_connection_is_used_again_and_made_anew_when_it_was_closed() -> None:
    asked: list[Asked] = []

    def answer(one: Asked) -> Said:
        asked.append(one)
        return Said(200, closes=len(asked) == 1)

    with fake_controller(answer) as address:
        one = ControllerClient(address)
        assert [one.request("GET", "/").status for _ in range(3)] == [200, 200, 200]
        one.close()


def test_token_is_read_for_every_request(tmp_path: Path) -> None:
    file = tmp_path / "token"
    asked: list[Asked] = []

    def answer(one: Asked) -> Said:
        asked.append(one)
        return Said(200)

    with fake_controller(answer) as address:
        one = ControllerClient(replace(address, token_file=file))
        for token in ("first", "second"):
            file.write_text(token + "\n")
            one.request("GET", "/")
        one.close()
    assert [each.headers["Authorization"] for each in asked] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    ("token", "why"), [(b"", "no token"), (b"two words", "no token"), (b"\xff", "no token")]
)
def test_token_file_that_has_none_is_an_error_without_its_text(
    tmp_path: Path, token: bytes, why: str
) -> None:
    file = tmp_path / "token"
    file.write_bytes(token)
    with (
        fake_controller(lambda _: Said(200)) as address,
        pytest.raises(ControllerError, match="it is no token") as caught,
    ):
        asked_once(replace(address, token_file=file))
    assert "two words" not in str(caught.value)


def test_missing_token_file_and_missing_server_are_errors(tmp_path: Path) -> None:
    with fake_controller(lambda _: Said(200)) as address:
        pass
    with pytest.raises(ControllerError, match="Connection refused"):
        asked_once(address)
    with pytest.raises(ControllerError, match="No such file"):
        asked_once(replace(address, token_file=tmp_path / "none"))


def test_too_large_an_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_ANSWER_BYTES", 10)
    with (
        fake_controller(lambda _: Said(200, b"x" * 11)) as address,
        pytest.raises(ControllerError, match="more than 10 bytes"),
    ):
        asked_once(address)


def test_controller_that_does_not_lead_is_not_asked_again_on_the_same_connection() -> None:
    asked: list[Asked] = []

    def answer(one: Asked) -> Said:
        asked.append(one)
        return Said(503 if len(asked) == 1 else 200)

    with fake_controller(answer) as address, closing(ControllerClient(address)) as one:
        with pytest.raises(ControllerError, match="503"):
            one.request("GET", "/")
        one.request("GET", "/")
        one.request("GET", "/")
    ports = [each.client_port for each in asked]
    assert ports[0] != ports[1] == ports[2]
