# SPDX-License-Identifier: Apache-2.0
"""What commands of a cluster say when there is none, or it does not let one in: a line, exit code 2."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from overhop import cli
from tests.unit.collector.cluster.fake_api import Answer, fake_api

COMMANDS = (
    ["plan"],
    ["cluster", "status"],
    ["cluster", "doctor"],
    ["cluster", "uninstall"],
    ["cluster", "snapshot"],
)


@pytest.fixture
def answers() -> list[Answer]:
    return [(200, [b"{}"])]


@pytest.fixture
def kubeconfig(tmp_path: Path, answers: list[Answer]) -> Iterator[Path]:
    with fake_api(lambda *_: answers[0]) as api:
        file = tmp_path / "kubeconfig"
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": api.server}}],
            "users": [{"name": "u", "user": {"token": "a-secret-token"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }  # fmt: skip
        file.write_text(yaml.safe_dump(document))
        yield file


def _said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    assert "a-secret-token" not in line
    return line


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("text", [None, "", "5", "{", "clusters: 7", "apiVersion: v1\nkind: Config\n"])
def test_kubeconfig_that_is_none_is_said(
    command: list[str], text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kubeconfig"
    if text is not None:
        file.write_text(text)
    line = _said(capsys, *command, "--kubeconfig", str(file))
    assert line.startswith("overhop: no Kubernetes cluster")


@pytest.mark.parametrize("command", COMMANDS[:4])
@pytest.mark.parametrize(("status", "hint"), [(401, "Unauthorized"), (403, "pods is forbidden")])
def test_api_server_that_refuses_is_said_with_its_reason(
    command: list[str],
    status: int,
    hint: str,
    kubeconfig: Path,
    answers: list[Answer],
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers[0] = (status, [f'{{"kind": "Status", "message": "{hint}"}}'.encode()])
    line = _said(capsys, *command, "--kubeconfig", str(kubeconfig))
    assert f"{status}: {hint}" in line


def test_token_file_for_the_store_that_is_not_there_is_said_before_anything_is_done(
    kubeconfig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = _said(
        capsys, "cluster", "install", "--image", "i", "--kubeconfig", str(kubeconfig),
        "--store-token-file", str(tmp_path / "none"),
    )  # fmt: skip
    assert "No such file" in line


def test_policies_that_are_wrong_are_said_all_at_once_with_their_lines(
    kubeconfig: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policies = tmp_path / "policies.yaml"
    policies.write_text("policies:\n  - name: a\n    sample_shift: 99\n  - nam: b\n")
    arguments = (
        "cluster",
        "install",
        "--image",
        "i",
        "--kubeconfig",
        str(kubeconfig),
        "--policies",
        str(policies),
    )
    assert cli.main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [":3:" in lines[0], ":4:" in lines[1]] == [True, True]


def test_node_cidr_that_is_none_is_said(kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = _said(
        capsys,
        "cluster",
        "install",
        "--image",
        "i",
        "--kubeconfig",
        str(kubeconfig),
        "--node-cidr",
        "10.0.0.1/8",
    )
    assert "--node-cidr" in line
