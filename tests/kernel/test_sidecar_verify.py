# SPDX-License-Identifier: Apache-2.0
"""`overhop sidecar verify` of real requests over a VXLAN lab, beside the kernel programs."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.hooks.attach import attach
from agent.loading.loader import load
from agent.network.links import link_by_name
from agent.reading.ring import RingReader
from agent.sockets.record import record_client
from agent.sockets.unix_socket import path_of
from bpf.record import Point
from bpf.spec import ProgramSpec
from overhop.lab import Host, Lab, Netns, Node, Pod
from tests.accept.tracer import Tracer
from tests.accept.verdict import until
from tests.require import require_commands

ROOT = Path(__file__).parents[2]
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
WINDOWS = (128, 200, 512, 4096)
LOADS: tuple[dict[str, Any], ...] = (  # options of Load
    {"requests": 10},
    {"requests": 10, "padding_bytes": 60},
    {"requests": 10, "padding_bytes": 300, "context": "b3-single"},
    {"requests": 10, "padding_bytes": 100, "context": "b3-multi"},
    {"requests": 10, "padding_bytes": 2000, "body_bytes": 5000, "split_body": True},
    {"requests": 10, "context": "none"},
    {"requests": 12, "pipeline": 3},
    {"requests": 10, "padding_bytes": 6000},
)
WITH_CONTEXT = 64
"""Requests of LOADS with a context that begin a packet: of three sent at once only the first does."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A client on one node, a server on the other."""

    client: Pod
    server: Pod
    node: Node
    """The server's."""

    def send_all(self) -> None:
        for load_ in LOADS:
            self.client.http(self.server, **load_).require_ok()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool", "setpriv", "tcpdump")
    with Lab.make(nodes=2) as lab:
        client = lab.nodes[0].pod("client", namespace="shop")
        server = lab.nodes[1].pod("server", namespace="shop", workload="web")
        server.serve_http(80)
        yield Scene(client, server, lab.nodes[1])


def verify_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "overhop", "sidecar", "verify", *map(str, arguments)]


def verify(place: Netns, *arguments: object) -> subprocess.CompletedProcess[str]:
    with place.entered():
        return subprocess.run(
            verify_command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )


def result(said: str) -> dict[str, Any]:  # Any: JSON
    made: dict[str, Any] = json.loads(said)
    return made


def taps_of(place: Netns) -> int:
    """Packet sockets of a namespace."""
    with place.entered():
        return len(Path("/proc/thread-self/net/packet").read_text().splitlines()) - 1


@contextmanager
def tapped(place: Netns, argv: list[str], **streams: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has opened a packet socket; it is ended at the latest here."""
    before = taps_of(place)
    with place.entered(), subprocess.Popen(argv, cwd=ROOT, **streams) as process:  # type: ignore[call-overload]
        try:
            deadline_s = time.monotonic() + 20
            while taps_of(place) == before:
                assert process.poll() is None, "it ended without a packet socket"
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(20)


@contextmanager
def captured(host: Host, interface: str, file: Path) -> Iterator[None]:
    """What passes an interface is in the file, once the block is left."""
    command = ["tcpdump", "-i", interface, "-s", "0", "-U", "--immediate-mode", "-w", str(file), "-Z", "root"]
    with tapped(host.netns, command, stderr=subprocess.DEVNULL) as process:
        yield
        process.send_signal(signal.SIGINT)
        process.wait(20)


@contextmanager
def tracing(node: Node, vport: str, windows: tuple[int, ...] = WINDOWS) -> Iterator[dict[int, RingReader]]:
    """The kernel programs on the node, once for each window, all at the same packets."""
    with ExitStack() as stack, node.netns.entered():
        rings = {}
        for window in windows:
            spec = ProgramSpec(window=window)
            programs = [Point.NIC_IN.program, Point.VPORT_OUT.program]
            loaded = stack.enter_context(load(spec, programs=programs))
            for point, name in ((Point.NIC_IN, "eth0"), (Point.VPORT_OUT, vport)):
                link = link_by_name(name)
                assert link is not None
                stack.callback(attach(link, point, loaded.programs[point.program]).detach)
            rings[window] = stack.enter_context(closing(RingReader(loaded.maps["oh_ring"], spec.ring_bytes)))
        yield rings


def test_verify_share_at_each_window_is_what_the_kernel_programs_find(scene: Scene, tmp_path: Path) -> None:
    """Of a capture at the vport, of one of VXLAN at the NIC, and live at the vport: three times the same."""
    inner, outer = tmp_path / "vport.pcap", tmp_path / "nic.pcap"
    live_command = verify_command(
        "--interface", scene.server.vport, "--seconds", 60, "--requests", WITH_CONTEXT, "--json"
    )
    with (
        tracing(scene.node, scene.server.vport) as rings,
        captured(scene.node, scene.server.vport, inner),
        captured(scene.node, "eth0", outer),
        tapped(scene.node.netns, live_command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as live,
    ):
        scene.send_all()
        said, errors = live.communicate(timeout=30)
        records = {window: ring.read() for window, ring in rings.items()}
    assert errors == b""
    traced = {window: int(((each["encap_context"] >> 4) != 0).sum()) for window, each in records.items()}
    assert {len(each) for each in records.values()} == {WITH_CONTEXT + 10}
    assert traced[128] < traced[200] < traced[512] < traced[4096] < WITH_CONTEXT
    for made in (
        result(said.decode()),
        result(verify(scene.node.netns, "--pcap", inner, "--json").stdout),
        result(verify(scene.node.netns, "--pcap", outer, "--json").stdout),
    ):
        assert made["with_context"] == WITH_CONTEXT
        found = {each["window"]: each["found"] for each in made["windows"]}
        assert {window: found[window] for window in WINDOWS} == traced, made["source"]
        assert [each["address"] for each in made["senders"]] == [str(scene.client.address)]


def test_verify_offsets_are_those_of_the_kernels_records(scene: Scene, tmp_path: Path) -> None:
    file = tmp_path / "a.pcap"
    with (
        tracing(scene.node, scene.server.vport, (4096,)) as rings,
        captured(scene.node, scene.server.vport, file),
    ):
        scene.send_all()
        records = rings[4096].read()
    kernels = sorted(records["context_offset"][records["encap_context"] >> 4 != 0].tolist())
    made = result(verify(scene.node.netns, "--pcap", file, "--json").stdout)
    offsets = [offset for offset, count in made["offsets"] for _ in range(count)]
    assert [offset for offset in offsets if offset < 4096] == kernels
    assert len(kernels) == WITH_CONTEXT - 10


def test_verify_by_an_agents_records_finds_what_a_capture_has(scene: Scene, tmp_path: Path) -> None:
    """Without a packet socket: offsets of the agent's own hops; beyond its window nothing is found."""
    file = tmp_path / "a.pcap"
    tracer = Tracer(scene.node, tmp_path)
    tracer.start()
    with tracer, captured(scene.node, scene.server.vport, file):
        command = verify_command("--agent", "--requests", WITH_CONTEXT + 10, "--seconds", 60, "--json")
        with scene.node.netns.entered():
            recording = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        with recording:
            until(lambda: record_client(record_socket(scene.node), "STATUS")["recording"], bool, 20)
            scene.send_all()
            said, _ = recording.communicate(timeout=30)
        too_large = verify(scene.node.netns, "--agent", "--window", 4097)
    made, exact = result(said.decode()), result(verify(scene.node.netns, "--pcap", file, "--json").stdout)
    assert made["source"] == "the agent's records, which searches 4096 bytes"
    assert (made["with_context"], made["split"], made["requests"]["no_context"]) == (WITH_CONTEXT, 10, 10)
    assert made["offsets"] == [each for each in exact["offsets"] if each[0] < 4096]
    found, expected = ({each["window"]: each["found"] for each in one["windows"]} for one in (made, exact))
    assert {window: found[window] for window in (128, 200, 4096)} == {
        window: expected[window] for window in (128, 200, 4096)
    }
    assert "10 requests without a context in the 4096 bytes" in made["notes"][1]
    assert recording.returncode == 1
    assert (too_large.returncode, too_large.stdout) == (2, "")
    assert too_large.stderr.startswith("overhop: --window 4097: the agent searches 4096 bytes only")


def test_verify_by_records_without_an_agent_says_so(scene: Scene) -> None:
    done = verify(scene.node.netns, "--agent")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no agent runs in this network namespace" in done.stderr


def record_socket(node: Node) -> Path:
    return path_of("record", node.netns.inode())


def test_verify_live_counts_what_it_does_not_look_at_and_ends_in_time(scene: Scene) -> None:
    command = verify_command("--interface", scene.server.vport, "--seconds", 2, "--json")
    with tapped(scene.node.netns, command, stdout=subprocess.PIPE) as live:
        scene.client.http(scene.server, requests=30, context="none").require_ok()
        said, _ = live.communicate(timeout=30)
    made = result(said.decode())
    assert live.returncode == 1
    assert made["source"] == f"interface {scene.server.vport}, by a packet socket"
    assert made["requests"] == {"no_context": 30}
    assert made["packets"]["response"] >= 30
    assert set(made["packets"]) <= {"request", "response", "no_request"}, (
        "the kernel's filter lets others pass"
    )
    assert made["notes"] == []


def test_verify_live_interrupted_gives_the_result_so_far(scene: Scene) -> None:
    command = verify_command("--interface", scene.server.vport, "--seconds", 600, "--json")
    with tapped(scene.node.netns, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as live:
        scene.client.http(scene.server, requests=30).require_ok()
        live.send_signal(signal.SIGINT)
        said, errors = live.communicate(timeout=30)
    made = result(said.decode())
    assert errors == b""
    assert made["notes"] == ["interrupted: what came before was counted"]
    assert live.returncode == (0 if made["with_context"] else 1)


def test_verify_live_without_rights_says_which_and_what_to_do_instead(scene: Scene) -> None:
    with scene.node.netns.entered():
        done = subprocess.run(
            [*NOBODY, *verify_command("--interface", scene.server.vport)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        f"overhop: interface {scene.server.vport}: a packet socket needs CAP_NET_RAW: run it as root, "
    )
    assert f"tcpdump -i {scene.server.vport}" in done.stderr


def test_verify_live_on_no_interface_names_those_that_are_there(scene: Scene) -> None:
    done = verify(scene.node.netns, "--interface", "nosuch0")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("overhop: interface nosuch0: none of this name in this network namespace")
    assert scene.server.vport in done.stderr


def test_verify_live_on_an_interface_that_goes_away_says_so(scene: Scene) -> None:
    gone = scene.node.pod("gone", namespace="shop")
    command = verify_command("--interface", gone.vport, "--seconds", 60, "--json")
    with tapped(scene.node.netns, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as live:
        scene.node.netns.ip([f"link delete {gone.vport}"])
        said, errors = live.communicate(timeout=30)
    assert (live.returncode, errors) == (1, b"")
    assert result(said.decode())["notes"] == [f"interface {gone.vport}: Network is down"]
