# SPDX-License-Identifier: Apache-2.0
"""Where an agent keeps what it measures, as the configuration says it."""

import os
from pathlib import Path

import pytest

from agent.storing.forwarding import ForwardConfig
from overhop import cli
from overhop.commands.agent import agent_config
from overhop.sources import resolve

NOWHERE = Path("/nonexistent/overhop.yaml")


def test_agent_config_of_a_directory_is_the_embedded_store() -> None:
    found = agent_config(resolve({"--store": "/s"}, None, {}, NOWHERE).config)
    assert (found.store, found.forward, found.keeps_rows) == (Path("/s"), None, True)


def test_agent_config_of_none_keeps_nothing() -> None:
    found = agent_config(resolve({"--store": "none"}, None, {}, NOWHERE).config)
    assert (found.store, found.forward, found.keeps_rows) == (None, None, False)


def test_agent_config_of_a_server_forwards_by_way_of_the_spool() -> None:
    options = {
        "--store": "influxdb2+https://h/team",
        "--store-token-file": "/t",
        "--store-ca-file": "/ca",
        "--spool": "/spool",
        "--spool-bytes": "64MiB",
        "--spool-age": "3600",
        "--send-rows-per-s": "500",
    }
    found = agent_config(resolve(options, None, {}, NOWHERE).config)
    assert found.store is None
    assert found.forward == ForwardConfig(
        target="influxdb2+https://h:8086/team",
        token_file=Path("/t"),
        ca_file=Path("/ca"),
        spool=Path("/spool"),
        spool_bytes=67_108_864,
        spool_age_s=3600.0,
        rows_per_s=500.0,
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file or directory: look at its path and its rights"),
        (b"", "it holds no token (one line of at most 4096 characters)"),
        (b"a\nb", "it holds no token (one line of at most 4096 characters)"),
        (b"\xff", "it holds no token (bytes that are not ASCII)"),
    ],
)
def test_agent_whose_token_cannot_be_read_is_code_2_before_anything_else(
    content: bytes | None, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
    spool = tmp_path / "spool"
    options = ["--store", "influxdb2://h/", "--store-token-file", str(token), "--spool", str(spool)]
    assert cli.main(["agent", *options, "--config", os.devnull]) == 2
    assert capsys.readouterr().err == f"overhop: token file {token}: {reason}\n"
    assert not spool.exists()
