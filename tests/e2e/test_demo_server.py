# SPDX-License-Identifier: Apache-2.0
"""The demo with a real InfluxDB of its own: the same as with the embedded store, and nothing is left."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.demo_process import ROOT, Demo, commands
from tests.e2e.envoy import require_envoy
from tests.kernel.leaks import wait_until
from tests.servers import influxd1, influxd2

URLS = {"influxdb2": "influxdb2://172.18.0.250:8086/overhop", "influxdb1": "influxdb1://172.18.0.250:8086/"}
IDENTITIES_HOLD = {"first": 0, "second": 0, "taken": 0, "summed": 0, "sampled": 0}
TIMEOUT_S = 120.0


@pytest.fixture(params=["influxdb2", "influxdb1"])
def server(request: pytest.FixtureRequest) -> str:
    """What `--store` says."""
    return str(request.param)


def program(server: str) -> dict[str, str]:
    """Where the demo finds it; skips (CI: fails) without."""
    return {"OVERHOP_INFLUXD2": influxd2()} if server == "influxdb2" else {"OVERHOP_INFLUXD1": influxd1()}


def ended(files: Path, *arguments: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    """What a demo of 40 requests says, which ends well and leaves nothing."""
    demo = Demo(files, "--json", "--requests", "40", *arguments, env=env)
    out, err = demo.end()
    assert (demo.process.returncode, err) == (0, "")
    said: dict[str, Any] = json.loads(out)
    assert demo.left(said["topology"]["name"]) == []
    return said


def measured(said: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on the store: all that was counted, not how long it took."""
    counts = {kind: hops["count"] + hops["retransmitted"] for kind, hops in said["hops"].items()}
    series = [
        (each["node"], each["kind"], each["source"], each["destination"], each["service"], each["count"])
        for each in said["series"]
    ]
    same = ("requests", "traces_found", "hops_expected", "hops_recorded", "contexts", "imbalances")
    return {name: said[name] for name in same} | {
        "hops": counts,
        "series": sorted(series, key=str),
        "read_back": said["stored"]["read_back"],
        "trace": [(hop["node"], hop["kind"]) for hop in said["trace"]["hops"]],
    }


def keys(said: object) -> object:
    """The names in an answer, level by level."""
    return {name: keys(value) for name, value in said.items()} if isinstance(said, dict) else None


def test_demo_of_a_server_says_the_same_as_of_the_embedded_store(files: Path, server: str) -> None:
    env = program(server)
    theirs = ended(files, "--no-sidecar", "--store", server, env=env)
    ours = ended(files, "--no-sidecar")
    assert measured(theirs) == measured(ours)
    assert list(theirs) == list(ours)
    assert keys(theirs["series"]) == keys(ours["series"])
    assert (theirs["requests"], theirs["traces_found"]) == (40, 40)
    assert theirs["imbalances"]["total"] == IDENTITIES_HOLD
    assert theirs["stored"]["read_back"] == {
        "n1": {"hops": 40, "samples": 40},
        "n2": {"hops": 30, "samples": 30},
    }
    assert theirs["stored"]["path"] == URLS[server]
    for agent in theirs["stored"]["agents"].values():
        assert agent["spool"]["sent"] == agent["rows"]
        assert set(agent["spool"]["waiting"].values()) == {0}


def test_demo_of_the_mesh_with_a_server_reads_every_hop_back(files: Path, server: str) -> None:
    require_envoy()
    said = ended(files, "--store", server, env=program(server))
    assert (said["requests"], said["traces_found"]) == (40, 40)
    assert said["imbalances"]["total"] == IDENTITIES_HOLD
    assert said["stored"]["read_back"] == {
        "n1": {"hops": 120, "samples": 120},
        "n2": {"hops": 80, "samples": 80},
    }


def influxds(files: Path) -> list[int]:
    """Pids of servers whose files are there."""
    mark = f"{files}/overhop-demo-".encode()
    return [pid for pid, command in commands() if mark in command and b"influxd" in command.split(b"\0")[0]]


def test_demo_of_a_server_ended_by_a_signal_leaves_no_server(files: Path, server: str) -> None:
    demo = Demo(files, "--no-sidecar", "--store", server, env=program(server))
    wait_until(lambda: len(demo.agents()) == 2, "both agents started", TIMEOUT_S)
    assert len(influxds(files)) == 1
    lab = demo.lab()
    os.killpg(demo.process.pid, signal.SIGTERM)
    out, _ = demo.end()
    assert (demo.process.returncode, out) == (143, "")
    wait_until(lambda: demo.left(lab) == [], f"nothing left of {lab}")


def test_demo_that_serves_with_a_server_is_asked_as_it_says_and_removed_by_clean(
    files: Path, server: str
) -> None:
    arguments = ("--json", "--no-sidecar", "--requests", "16", "--serve", "--store", server)
    demo = Demo(files, *arguments, env=program(server))
    line = demo.process.stdout.readline() if demo.process.stdout else ""
    said = json.loads(line)
    asked = overhop(said["invitation"], "hops", "--since", "10m")
    assert asked["store"] == URLS[server]
    assert asked["hops"] >= said["hops_expected"]
    shown = overhop(said["invitation"], "trace", said["trace"]["trace_id"])
    assert shown["hops"] == said["trace"]["hops"]
    assert len(influxds(files)) == 1
    lab = demo.lab()
    demo.process.kill()
    demo.end()
    subprocess.run(
        [sys.executable, "-m", "overhop", "clean", "--json"], cwd=ROOT, capture_output=True, check=True
    )
    wait_until(lambda: demo.left(lab) == [], f"nothing left of {lab}")


def overhop(invited: dict[str, str], *command: str) -> dict[str, Any]:
    """What a command that the demo invites to says."""
    argv = [
        *shlex.split(invited["entrance"]),
        *(sys.executable, "-m", "overhop", *command, "--json", "--store", invited["store"]),
        *shlex.split(invited["options"]),
    ]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def test_demo_without_the_right_influxd_is_one_line_before_anything_is_built(
    files: Path, server: str
) -> None:
    variable = f"OVERHOP_INFLUXD{server[-1]}"
    demo = Demo(files, "--no-sidecar", "--store", server, env={variable: "/bin/true"})
    out, err = demo.end()
    assert (demo.process.returncode, out) == (1, "")
    assert err == f"overhop: {variable}=/bin/true: it is no influxd, not influxd {server[-1]}.x\n"
    assert list(files.iterdir()) == []


def test_demo_whose_influxd_does_not_start_says_why_and_leaves_nothing(files: Path, server: str) -> None:
    broken = files / "broken"
    version = f'[ "$1" = version ] && {{ echo "InfluxDB v{server[-1]}.7.1"; exit; }}'
    broken.write_text(f'#!/bin/sh\n{version}\necho "no luck" >&2\nexit 7\n')
    broken.chmod(0o755)
    demo = Demo(files, "--no-sidecar", "--store", server, env={f"OVERHOP_INFLUXD{server[-1]}": str(broken)})
    out, err = demo.end()
    assert (demo.process.returncode, out) == (1, "")
    assert err == "overhop: influxd does not start: no luck\n"
    assert list(files.iterdir()) == [broken]
