# SPDX-License-Identifier: Apache-2.0
"""`overhop cluster` where the API server refuses or is away, or the namespace is another's: one line, 2."""

import json
from pathlib import Path

import pytest

from overhop import cli
from tests.cluster.installation import unique
from tests.kubernetes import Kubernetes

COMMANDS = [["status"], ["install", "--image", "i"], ["uninstall"], ["doctor"]]


def _kubeconfig(cluster: Kubernetes, directory: Path, token: str = "", server: str = "") -> str:
    """As the cluster's own, with another login or another address."""
    found = json.loads(cluster.kubectl("config", "view", "--raw", "--flatten", "-o", "json"))
    if server:
        found["clusters"][0]["cluster"]["server"] = server
    if token:
        found["users"][0]["user"] = {"token": token}
    file = directory / "kubeconfig"
    file.write_text(json.dumps(found))
    return str(file)


def _said(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that ends with code 2."""
    assert cli.main(["cluster", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("overhop: ")
    [line] = said.err.splitlines()
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_token_that_is_not_valid_is_said(
    command: list[str], api_server: Kubernetes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = _kubeconfig(api_server, tmp_path, token="expired.or.wrong")
    line = _said([*command, "--kubeconfig", place], capsys)
    assert "401" in line
    assert "log in again" in line
    assert "expired.or.wrong" not in line


@pytest.mark.parametrize("command", COMMANDS)
def test_right_that_is_missing_is_named(
    command: list[str], api_server: Kubernetes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    account = unique("powerless")
    meta = {"name": account, "namespace": "default"}
    api_server.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    token = api_server.kubectl("create", "token", account).strip()
    line = _said([*command, "--kubeconfig", _kubeconfig(api_server, tmp_path, token=token)], capsys)
    assert "403" in line
    assert f"system:serviceaccount:default:{account}" in line
    assert " cannot " in line
    assert token not in line


@pytest.mark.parametrize("command", COMMANDS)
def test_server_that_is_away_is_said(
    command: list[str], api_server: Kubernetes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = _kubeconfig(api_server, tmp_path, server="https://127.0.0.1:1")
    assert "Connection refused" in _said([*command, "--kubeconfig", place], capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_kubeconfig_that_is_not_there_is_said(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = _said([*command, "--kubeconfig", str(tmp_path / "none")], capsys)
    assert "no Kubernetes cluster" in line


@pytest.mark.parametrize("command", [["install", "--image", "i"], ["uninstall"]])
def test_namespace_of_somebody_else_is_not_touched(
    command: list[str], api_server: Kubernetes, capsys: pytest.CaptureFixture[str]
) -> None:
    name = unique("theirs")
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    place = ["--kubeconfig", str(api_server.kubeconfig), "--namespace", name]
    assert f"namespace {name} is there and not overhop's" in _said([*command, *place], capsys)
    labels = api_server.get("namespace", name)["metadata"]["labels"]
    assert labels == {"kubernetes.io/metadata.name": name}


def test_dry_run_changes_nothing_and_shows_no_secret(
    api_server: Kubernetes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("very-secret")
    name = unique("dry")
    place = ["--kubeconfig", str(api_server.kubeconfig), "--namespace", name, "--dry-run"]
    token = ["--store", "influxdb2://h:1/o", "--store-token-file", str(tmp_path / "token")]
    assert cli.main(["cluster", "install", "--image", "i", *place, *token]) == 0
    said = capsys.readouterr()
    assert "kind: DaemonSet" in said.out
    assert "PRIVATE KEY" not in said.out
    assert "dmVyeS1zZWNyZXQ" not in said.out
    assert name not in api_server.kubectl("get", "namespaces", "-o", "name")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--store URL or --trial-influxdb"),
        (["--store", "influxdb2://h:1/o"], "--store-token-file FILE"),
        (["--store", "influxdb2://u:hunter2@h/o"], "--store: it has a password in it"),
        (["--store", "/var/lib/hops"], "--store: "),
        (
            ["--store", "influxdb1://h/", "--node-cidr", "10.0.0.1/8"],
            "--node-cidr: 10.0.0.1/8 has host bits set",
        ),
        (
            ["--store", "influxdb1://h/", "--cri-socket", "run/x.sock"],
            "--cri-socket run/x.sock: it is no path",
        ),
        (["--store", "influxdb1://h/", "--cri-socket", "/x.sock", "--no-cri"], "--cri-socket and --no-cri"),
    ],
)
def test_installation_that_could_not_work_is_not_begun(
    options: list[str], said: str, api_server: Kubernetes, capsys: pytest.CaptureFixture[str]
) -> None:
    name = unique("begun")
    place = ["--kubeconfig", str(api_server.kubeconfig), "--namespace", name]
    line = _said(["install", "--image", "i", *options, *place], capsys)
    assert said in line
    assert "hunter2" not in line
    assert name not in api_server.kubectl("get", "namespaces", "-o", "name")
