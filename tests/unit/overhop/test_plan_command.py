# SPDX-License-Identifier: Apache-2.0
"""`overhop plan`, out of files."""

import json
from pathlib import Path

import pytest

from overhop.cli import main

SNAPSHOT = {
    "cluster": "c1",
    "nodes": [{"name": f"n{at}", "uid": f"u{at}", "addresses": []} for at in (1, 2, 3)],
    "namespaces": [{"name": "shop"}],
    "pods": [
        {"uid": "p1", "namespace": "shop", "name": "web-1", "node": "n1", "labels": {"app": "web"}},
        {"uid": "p2", "namespace": "shop", "name": "lost", "node": "n9"},
    ],
    "inventories": [{"node": "n1", "nic": ["eth0"], "contract": 2}, {"node": "n3", "contract": 1}],
}
POLICIES = """\
policies:
- {name: web, namespaces: shop, pod_selector: {matchLabels: {app: web}}, sample_shift: 2, directions: in}
- {name: "off", namespaces: nowhere, traced: false}
"""


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    snapshot, policies = tmp_path / "s.json", tmp_path / "p.yaml"
    snapshot.write_text(json.dumps(SNAPSHOT))
    policies.write_text(POLICIES)
    return ["--snapshot", str(snapshot), "--policies", str(policies)]


def test_plan_says_what_each_node_does(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("n1: plan ")
    searched = "encapsulations geneve+gre+ipip+vxlan, contexts b3-multi+b3-single+w3c"
    assert lines[1:3] == ["  nic: eth0", f"  program: window 4096, {searched}, filter true"]
    assert lines[3:5] == [
        "  policy web: shop, app=web: only in, one in 4 traces",
        "  policy off: no namespace: not traced",
    ]
    assert "n3: its agent knows contract 1 only and keeps its plan" in lines
    assert lines[-1].endswith("p.yaml:3:3: policies[1]: policy 'off' fits no pod that there is")


def test_plan_without_policies_tells_equal_nodes_once(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    data = {**SNAPSHOT, "inventories": []}
    Path(files[1]).write_text(json.dumps(data))
    assert main(["plan", *files[:2]]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "n1, n2, n3: one plan",
        "  nic: looked for by the agent",
        "  program: as it is by default",
        "  no policy: any namespace: every request",
    ]


def test_plan_as_json_is_the_message_and_its_digest(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *files, "--node", "n1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said["plans"]) == ["n1"]
    assert said["outdated"] == {}
    assert said["plans"]["n1"]["selectors"][0]["labels"] == [
        {"key": "app", "operator": "In", "values": ["web"]}
    ]
    assert len(said["plans"]["n1"]["digest"]) == 16
    assert len(said["warnings"]) == 1


def test_why_says_what_counts_for_a_pod(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *files, "--why", "shop/web-1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "shop/web-1: traced on n1: the only policy that fits",
        "  policy web: shop, app=web: only in, one in 4 traces",
        "  policy web: counts",
        "  policy off: namespaces: shop is none of nowhere",
    ]
    assert main(["plan", *files, "--why", "shop/web-1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["node"], said["traced"], said["policy"]) == ("n1", True, "web")
    assert said["considered"] == [
        {"policy": "web", "why_not": None},
        {"policy": "off", "why_not": "namespaces: shop is none of nowhere"},
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--node", "n8"], "--node n8: no such node in "),
        (["--why", "web-1"], "--why web-1: give NAMESPACE/POD"),
        (["--why", "shop/web-2"], "--why shop/web-2: no such pod in "),
        (["--why", "shop/web-1", "--node", "n2"], "--why shop/web-1: no such pod on node n2 in "),
        (["--why", "shop/lost"], "--why shop/lost: its node 'n9' is not in "),
        (["--snapshot", "/nonexistent"], "--snapshot /nonexistent: No such file or directory"),
        (["--policies", "/nonexistent"], "/nonexistent: cannot be read: No such file or directory"),
    ],
)
def test_plan_of_what_is_not_there_is_one_line_and_code_2(
    files: list[str], capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    assert main(["plan", *files, *more]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line


def test_plan_of_a_file_that_is_no_snapshot_is_one_line(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(files[1]).write_text("{}")
    assert main(["plan", *files]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("cluster: Field required")
