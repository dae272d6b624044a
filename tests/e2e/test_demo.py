# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it, and what is left of it: nothing, however it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from overhop.sidecar.build import build
from tests.e2e.demo_process import ROOT, Demo, commands
from tests.e2e.envoy import require_envoy
from tests.kernel.leaks import wait_until
from tests.require import require_commands

IDENTITIES_HOLD = {"first": 0, "second": 0, "taken": 0, "summed": 0, "sampled": 0}
WAY = [("n1", "rx"), ("n1", "local"), ("n1", "tx"), ("n2", "rx"), ("n2", "local")]
"""Of a request through the mesh."""
AGENTS_START_S = 120.0


@pytest.mark.parametrize(("cni", "encap"), [("vxlan", "vxlan"), ("vxlan6", "vxlan"), ("ipip", "ipip")])
def test_demo_of_the_mesh_finds_every_request_in_the_store_and_leaves_nothing(
    files: Path, cni: str, encap: str
) -> None:
    require_envoy()
    demo = Demo(files, "--json", "--requests", "40", "--cni", cni)
    out, err = demo.end()
    assert (demo.process.returncode, err) == (0, "")
    said = json.loads(out)
    assert (said["requests"], said["traces_found"], said["cni"]) == (40, 40, cni)
    assert said["imbalances"]["nodes"] == {"n1": IDENTITIES_HOLD, "n2": IDENTITIES_HOLD}
    assert (said["hops_expected"], said["hops_recorded"]) == (200, {"n1": 120, "n2": 80})
    read_back = {"n1": {"hops": 120, "samples": 120}, "n2": {"hops": 80, "samples": 80}}
    assert said["stored"]["read_back"] == read_back
    assert [(sight["node"], sight["kind"]) for sight in said["sights"]] == WAY
    assert [sight["encaps"] for sight in said["sights"]] == [
        {"none": 40},
        {"none": 40},
        {encap: 40},
        {encap: 40},
        {"none": 40},
    ]
    assert [(hop["node"], hop["kind"]) for hop in said["trace"]["hops"]] == WAY
    # A node port hides the client behind an address of the node, whatever the CNI.
    assert who_called_whom(said["series"]) == {
        ("n1", "rx"): ("masqueraded", "productpage-v1", "bookinfo/productpage"),
        ("n1", "local"): ("productpage-v1", "details-v1", "bookinfo/details"),
        ("n1", "tx"): ("productpage-v1", "reviews-v1", "bookinfo/reviews"),
        ("n2", "rx"): ("productpage-v1", "reviews-v1", ""),
        ("n2", "local"): ("reviews-v1", "ratings-v1", "bookinfo/ratings"),
    }
    assert demo.left(said["topology"]["name"]) == []


def who_called_whom(series: list[dict[str, Any]]) -> dict[tuple[str, str], tuple[str, str, str]]:
    """By node and kind: workloads at both ends, and the service."""
    return {
        (each["node"], each["kind"]): (
            each["source"]["workload"],
            each["destination"]["workload"],
            each["service"],
        )
        for each in series
    }


def test_demo_window_before_the_sidecars_context_finds_none_and_says_why(files: Path) -> None:
    require_envoy()
    demo = Demo(files, "--json", "--requests", "20", "--window", "200", "--relocation", "off")
    out, err = demo.end()
    assert demo.process.returncode == 1
    assert err == (
        "overhop: demo: bookinfo, w3c: 0 of 20 requests have all their hops; in 80 of 100 hops the 200 bytes"
        " searched (--window) hold no context: a sidecar writes it behind all other headers, here at byte"
        " 329\n"
    )
    said = json.loads(out)
    assert (said["requests"], said["traces_found"]) == (20, 0)
    assert [sight["with_context"] for sight in said["sights"]] == [20, 0, 0, 0, 0]
    assert [sight["window_exceeded"] for sight in said["sights"]] == [0, 20, 20, 20, 20]
    assert said["imbalances"]["total"] == IDENTITIES_HOLD


@pytest.mark.parametrize("tracer", ["opentelemetry", "zipkin"])
@pytest.mark.parametrize("variant", ["lua", "native"])
def test_demo_with_the_context_moved_finds_every_request_in_a_small_window(
    files: Path, monkeypatch: pytest.MonkeyPatch, variant: str, tracer: str
) -> None:
    require_envoy()
    require_commands("cc")
    monkeypatch.setenv("OVERHOP_SIDECAR_MODULE", str(build(files / "modules").parent))
    asked = ("--requests", "20", "--window", "200", "--relocation", variant, "--tracer", tracer)
    demo = Demo(files, "--json", *asked)
    out, err = demo.end()
    assert (demo.process.returncode, err) == (0, "")
    said = json.loads(out)
    assert (said["requests"], said["traces_found"], said["relocation"]) == (20, 20, variant)
    between = said["sights"][1:]  # the first stop is before any sidecar
    assert {(sight["first_offset_bytes"], sight["last_offset_bytes"]) for sight in between} == {(45, 45)}


def test_demo_without_the_native_module_says_what_to_do(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_envoy()
    monkeypatch.setenv("OVERHOP_SIDECAR_MODULE", "/nonexistent")
    demo = Demo(files, "--relocation", "native")
    out, err = demo.end()
    assert (demo.process.returncode, out) == (1, "")
    assert err == (
        "overhop: sidecar: OVERHOP_SIDECAR_MODULE=/nonexistent: no librelocate.so there: run ./dev sidecar"
        " build, or use the Lua variant\n"
    )


def test_demo_that_serves_keeps_tracing_until_ctrl_c(files: Path) -> None:
    require_envoy()
    demo = Demo(files, "--json", "--requests", "8", "--serve")
    line = demo.process.stdout.readline() if demo.process.stdout else ""
    invited = json.loads(line)["invitation"]
    lab = demo.lab()
    answer = subprocess.run(invited["outside"], shell=True, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith('{"service":"productpage"')
    argv = (sys.executable, "-m", "overhop", "trace", invited["trace_id"], "--store", invited["store"])
    waiting = (*argv, "--json", "--wait", "30")
    trace = subprocess.run(waiting, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [(hop["node"], hop["kind"]) for hop in json.loads(trace.stdout)["hops"]] == WAY
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.end() == ("", "")
    assert demo.process.returncode == 0
    assert demo.left(lab) == []


def test_demo_without_envoy_is_one_line_with_what_to_do(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERHOP_ENVOY", "/nonexistent/envoy")
    demo = Demo(files)
    out, err = demo.end()
    assert (demo.process.returncode, out) == (1, "")
    assert err == (
        "overhop: OVERHOP_ENVOY=/nonexistent/envoy: no such program: name an Envoy or unset it; "
        "or run the demo without sidecars: --no-sidecar\n"
    )


def test_demo_with_a_store_leaves_its_hops_there(
    files: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = tmp_path_factory.mktemp("kept") / "store"
    demo = Demo(files, "--json", "--no-sidecar", "--requests", "16", "--store", str(store))
    out, err = demo.end()
    assert (demo.process.returncode, err) == (0, "")
    said = json.loads(out)
    assert said["stored"]["path"] == str(store)
    argv = (sys.executable, "-m", "overhop", "trace", said["trace"]["trace_id"], "--store", str(store))
    trace = subprocess.run([*argv, "--json"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(trace.stdout)["hops"] == said["trace"]["hops"]


def test_demo_without_sidecars_finds_every_request_and_leaves_nothing(files: Path) -> None:
    demo = Demo(files, "--json", "--no-sidecar", "--requests", "80")
    out, err = demo.end()
    assert (demo.process.returncode, err) == (0, "")
    said = json.loads(out)
    assert (said["requests"], said["traces_found"]) == (80, 80)
    counts = {kind: hops["count"] + hops["retransmitted"] for kind, hops in said["hops"].items()}
    assert counts == {"rx": 60, "tx": 40, "local": 20, "forward": 20}
    for hops in said["hops"].values():
        assert 0 < hops["p50_us"] <= hops["p99_us"] <= hops["max_us"]
    assert {name: each["found"] for name, each in said["contexts"].items()} == {
        "w3c": 20,
        "b3-multi": 20,
        "b3-single": 20,
        "none": 20,
    }
    assert said["imbalances"]["total"] == IDENTITIES_HOLD
    assert said["imbalances"]["nodes"] == {"n1": IDENTITIES_HOLD, "n2": IDENTITIES_HOLD}
    assert (said["hops_expected"], said["hops_recorded"]) == (140, {"n1": 80, "n2": 60})
    assert said["counters"]["total"]["records"] == 140
    assert [(hop["node"], hop["kind"]) for hop in said["trace"]["hops"]] == [("n1", "tx"), ("n2", "rx")]
    assert [node["name"] for node in said["topology"]["nodes"]] == ["n1", "n2"]
    assert demo.left(said["topology"]["name"]) == []


def test_two_demos_at_once_in_text_find_every_request(files: Path) -> None:
    places = [files / "one", files / "two"]
    for place in places:
        place.mkdir()
    demos = [Demo(place, "--no-sidecar", "--requests", "32", "--window", "512") for place in places]
    for demo in demos:
        out, err = demo.end()
        assert (demo.process.returncode, err) == (0, "")
        assert "requests: 32 of 32 found with every hop" in out
        assert "\x1b" not in out
        assert list(demo.files.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_demo_ended_by_a_signal_leaves_nothing(files: Path, number: signal.Signals, code: int) -> None:
    require_envoy()
    demo = Demo(files)
    wait_until(lambda: len(demo.agents()) == 2, "both agents started", AGENTS_START_S)
    lab = demo.lab()
    os.killpg(demo.process.pid, number)
    out, _ = demo.end()
    assert (demo.process.returncode, out) == (code, "")
    wait_until(lambda: demo.left(lab) == [], f"nothing left of {lab}")


def test_demo_whose_agent_is_killed_says_so_and_leaves_nothing(files: Path) -> None:
    demo = Demo(files, "--json", "--no-sidecar")
    wait_until(lambda: len(demo.agents()) == 2, "both agents started", AGENTS_START_S)
    lab = demo.lab()
    os.kill(demo.agents()[0], signal.SIGKILL)
    out, err = demo.end()
    assert (demo.process.returncode, out) == (1, "")
    assert err.startswith("overhop: agent on n")
    assert "ended at its start with SIGKILL" in err
    assert len(err.splitlines()) == 1
    wait_until(lambda: demo.left(lab) == [], f"nothing left of {lab}")


def test_demo_without_bcc_is_one_line_of_the_agent(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERHOP_BCC_PYTHON", "/nonexistent/python3")
    demo = Demo(files, "--no-sidecar")
    out, err = demo.end()
    assert (demo.process.returncode, out) == (1, "")
    assert "/nonexistent/python3" in err
    assert "python3-bpfcc" in err
    assert len(err.splitlines()) == 1
    assert list(files.iterdir()) == []


def test_demo_not_as_root_is_one_line_with_what_to_do(files: Path) -> None:
    require_commands("setpriv")
    done = subprocess.run(
        [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            sys.executable,
            "-m",
            "overhop",
            "demo",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "overhop: lab: network namespaces need root: run it with sudo\n"


def test_demo_killed_while_it_serves_is_removed_by_clean(files: Path) -> None:
    require_envoy()
    demo = Demo(files, "--json", "--requests", "4", "--serve")
    line = demo.process.stdout.readline() if demo.process.stdout else ""
    pods = json.loads(line)["topology"]["nodes"][0]["vports"]
    inside = (Path("/run/netns") / pods[0]["netns"]).stat().st_ino
    assert len(processes_of(inside)) == 2, "the application and its sidecar"
    lab = demo.lab()
    demo.process.kill()
    demo.end()
    subprocess.run(  # it says what it removed, unless a lab that started meanwhile had done so
        [sys.executable, "-m", "overhop", "clean", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    wait_until(lambda: processes_of(inside) == [], f"processes of {lab} ended")
    wait_until(lambda: demo.left(lab) == [], lab)


def processes_of(netns_inode: int) -> list[int]:
    """Pids inside a network namespace."""
    found = []
    for pid, _ in commands():
        try:
            if Path(f"/proc/{pid}/ns/net").stat().st_ino == netns_inode:
                found.append(pid)
        except OSError:
            continue
    return found
