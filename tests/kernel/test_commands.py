# SPDX-License-Identifier: Apache-2.0
"""`overhop doctor` and `overhop clean` on a lab's nodes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent.hooks.attach import attach
from agent.loading.loader import load
from agent.lock import AgentLock
from agent.network.links import link_by_name
from bpf.record import Point
from bpf.spec import ProgramSpec
from overhop.lab import Lab, Netns, Node
from tests.require import require_commands

ROOT = Path(__file__).parents[2]
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool", "setpriv", "unshare", "tc")
    with Lab.make(nodes=2) as lab:
        lab.nodes[0].pod("web", namespace="shop").serve_http(80)
        yield lab.nodes[0]


def overhop(place: Netns, *arguments: str, under: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    with place.entered():
        return subprocess.run(
            [*under, sys.executable, "-m", "overhop", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {row["subject"]: row for row in json.loads(done.stdout)["findings"]}


def test_doctor_lab_node_shows_overlay_nic_and_pods(node: Node) -> None:
    done = overhop(node.netns, "doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = findings(done)
    assert found["overlay"]["verdict"] == "ok"
    assert found["overlay"]["fact"].startswith("flannel.1: vxlan on UDP 8472")
    assert found["NIC"]["fact"].startswith("eth0 (veth, underlay of flannel.1)")
    assert found["pods"]["fact"].startswith("1 interface to pods: veth")
    assert found["agent"]["verdict"] == "note"


def test_doctor_without_capabilities_is_code_1_and_names_them(node: Node) -> None:
    done = overhop(node.netns, "doctor", "--json", under=NOBODY)
    assert done.returncode == 1
    assert findings(done)["capabilities"]["fact"] == "without CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON"


def test_doctor_while_an_agent_holds_the_lock_names_its_pid(node: Node) -> None:
    with node.netns.entered():
        lock = AgentLock()
    with lock:
        found = findings(overhop(node.netns, "doctor", "--json"))
    assert found["agent"] == {
        "subject": "agent",
        "verdict": "ok",
        "fact": f"runs as pid {os.getpid()}",
        "advice": "",
    }


def test_clean_while_an_agent_runs_is_refused_with_its_pid(node: Node) -> None:
    with node.netns.entered():
        lock = AgentLock()
    with lock:
        done = overhop(node.netns, "clean")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "overhop: lock this network namespace: an overhop agent is already running "
        f"(pid {os.getpid()}): stop it first\n"
    )


def test_clean_leftover_filter_is_removed_once(node: Node) -> None:
    with node.netns.entered(), load(ProgramSpec(), programs=[Point.NIC_IN.program]) as loaded:
        link = link_by_name("eth0")
        assert link is not None
        attach(link, Point.NIC_IN, loaded.programs[Point.NIC_IN.program], "clsact")
    first = overhop(node.netns, "clean", "--json")
    assert first.returncode == 0
    removed = [line.partition(":")[0] for line in json.loads(first.stdout)["removed"]]
    assert [what for what in removed if not what.startswith("socket ")] == ["eth0", "eth0"]  # of other tests
    assert "overhop" not in node.netns.run(["tc", "filter", "show", "dev", "eth0", "ingress"])
    assert "clsact" not in node.netns.run(["tc", "qdisc", "show", "dev", "eth0"])
    again = overhop(node.netns, "clean").stdout.splitlines()
    assert [line for line in again if not line.startswith("removed socket ")] in ([], ["nothing to remove"])
