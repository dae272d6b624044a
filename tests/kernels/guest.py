# SPDX-License-Identifier: Apache-2.0
"""Runs inside a guest (or on this machine): what the kernel says to the programs, one JSON object a line."""

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from agent.hooks import tc
from agent.hooks.attach import attach, has_tcx
from agent.loading import loader
from agent.network.links import link_by_name
from bpf.record import Point
from bpf.spec import ProgramSpec
from overhop.lab.netns import Netns, create, delete
from tests.kernel.wire import stretched
from tests.kernels import stacks
from tests.kernels.builds import EXCHANGES, FUZZ_CASES
from tests.kernels.bytecode import Build, load, read_builds, verify

if TYPE_CHECKING:
    from agent.reading.ring import Records
    from overhop.lab import Cni, Node

BYTECODE = Path("/dev/vdb")
"""The host gives what it compiled as a disk."""
LOAD_TIMEOUT_S = 900.0
"""An emulated processor compiles some fifty times slower."""
FUZZ_PACKETS = 5000
FUZZ_SEED = 61
REQUESTS = 300
CONNECTIONS = 4
PAIRING_TIMEOUT_S = 60.0

Line = dict[str, Any]  # plain data for JSON
Builds = dict[str, Build]


def kernel_facts(_: Builds) -> Iterator[Line]:
    """Which kernel, and whether it has TCX."""
    yield {"release": os.uname().release, "has_tcx": has_tcx()}


def verdicts(builds: Builds) -> Iterator[Line]:
    """Instructions that the verifier processed, and its last lines if it refused, by build and program."""
    for build in builds.values():
        for program, verdict in verify(build).items():
            yield {"build": build.name, "program": program} | asdict(verdict)


def real_loader(_: Builds) -> Iterator[Line]:
    """The agent's own loader: compile here and load, at the default window."""
    begin_s = time.monotonic()
    with mock.patch.object(loader, "TIMEOUT_S", LOAD_TIMEOUT_S), loader.load(ProgramSpec()) as loaded:
        took_s = round(time.monotonic() - begin_s, 1)
        yield {"programs": len(loaded.programs), "insns": loaded.verified_insns, "load_s": took_s}


def attaches(builds: Builds) -> Iterator[Line]:
    """Attach at every tracing point as the agent does, with traffic passing; nothing may be left behind."""
    with (
        _namespaces("here", "there") as (netns, other),
        netns.entered(),
        stretched(netns, other) as wire,
        load(builds["window 4096"]) as loaded,
    ):
        for point in Point:
            attached = attach(wire.link, point, loaded.programs[point.program])
            line: Line = {"point": point.label, "mode": attached.mode, "attached": attached.is_attached()}
            line["exchanged"] = wire.exchange(EXCHANGES)
            attached.detach()
            yield line | {"left": tc.clsact_qdiscs().get(wire.link.ifindex)}


def fuzz(builds: Builds) -> Iterator[Line]:
    """Packets through the programs, compared with the model of tests/oracle."""
    from tests.oracle import harness
    from tests.oracle.campaign import Share, run_share
    from tests.oracle.cases import cases

    for case in cases():
        if case.name not in FUZZ_CASES:
            continue
        ready = load(builds[f"fuzz {case.name}"])
        with mock.patch.object(harness, "load", lambda *_, ready=ready, **__: ready):
            outcome = run_share(Share(case, FUZZ_SEED, 0, FUZZ_PACKETS), Path(tempfile.gettempdir()))
        yield {"case": case.name, "packets": outcome.packets, "records": outcome.records} | (
            {"problem": outcome.problem[-2000:]} if outcome.problem else {}
        )


def pairing(builds: Builds) -> Iterator[Line]:
    """Real requests from pod to pod over labs of two nodes, with each CNI: hops and counters of each node."""
    from overhop.lab import CNIS

    for cni in CNIS:
        for line in _pairing_over(cni, builds):
            yield {"cni": cni} | line


def _pairing_over(cni: "Cni", builds: Builds) -> Iterator[Line]:
    from agent.reading.counters import CounterReader
    from overhop.lab import Lab

    with ExitStack() as stack:
        lab = stack.enter_context(Lab.make(cni))
        device = _device_kind(lab.nodes[0])
        client, server = lab.nodes[0].pod("client"), lab.nodes[1].pod("server")
        server.serve_http(80)
        modes = set()
        traced = []
        for node, pod in zip(lab.nodes, (client, server), strict=True):
            loaded = stack.enter_context(load(builds["window 4096"]))
            with node.netns.entered():
                for point in Point:
                    link = link_by_name("eth0" if point.label.startswith("nic") else pod.vport)
                    assert link is not None
                    attached = attach(link, point, loaded.programs[point.program])
                    stack.enter_context(_detached_in(node.netns, attached.detach))
                    modes.add(attached.mode)
            traced.append((node.name, loaded, CounterReader(loaded.maps["oh_counters"])))
        result = client.http(server, requests=REQUESTS, connections=CONNECTIONS)
        for name, loaded, reader in traced:
            counters = _settled(reader.read, REQUESTS)
            yield {
                "node": name,
                "overlay": device,
                "modes": sorted(modes),
                "requests": int((result.status == 200).sum()),
                "hops": _hops(loaded),
                "counters": {key: value for key, value in counters.items() if value},
            }


def _device_kind(node: "Node") -> str:
    """Of the overlay's device: for ipip a veth, where the kernel has no better."""
    (link,) = json.loads(node.run("ip", "-j", "-d", "link", "show", node.overlay.device))
    return str(link["linkinfo"]["info_kind"])


def _hops(loaded: loader.Loaded) -> dict[str, int]:
    """Records by kind and encapsulation, those with a context and those of retransmissions apart."""
    from collections import Counter

    from agent.reading.ring import RingReader

    ring = RingReader(loaded.maps["oh_ring"], ProgramSpec().ring_bytes)
    try:
        records = ring.read()
    finally:
        ring.close()
    return dict(Counter(_described(*each) for each in _columns(records)))


def _columns(records: "Records") -> Iterator[tuple[int, ...]]:
    names = ("kind_message", "encap_context", "quality")
    return zip(*(records[name].tolist() for name in names), strict=True)


def _described(kind: int, encap: int, quality: int) -> str:
    """`tx vxlan with context`; what TCP sent again is apart, as in the agent: a slow machine has some."""
    from bpf.record import Encap, Kind, Quality

    context = " with context" if encap >> 4 else ""
    again = " again" if quality & Quality.RETRANSMIT else ""
    return f"{Kind(kind & 15).label} {Encap(encap & 15).label}{context}{again}"


def _settled(read: Callable[[], dict[str, int]], records: int) -> dict[str, int]:
    """Counters once so many records were written; what there is after a minute."""
    deadline_s = time.monotonic() + PAIRING_TIMEOUT_S
    while (counters := read())["records"] < records and time.monotonic() < deadline_s:
        os.sched_yield()
    return counters


@contextmanager
def _detached_in(netns: Netns, detach: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    finally:
        with netns.entered():
            detach()


@contextmanager
def _namespaces(*ends: str) -> Iterator[list[Netns]]:
    names = [f"oh-kernels-{os.getpid()}-{end}" for end in ends]
    try:
        yield create(names)
    finally:
        delete(Netns(name) for name in names)


def stacked_links(_: Builds) -> Iterator[Line]:
    """What rtnetlink says of bonds, VLANs and tunnels, for tests on kernels that lack them."""
    stacks.load_modules()
    for stack in stacks.STACKS:
        with _namespaces("stack") as (netns,):
            yield stacks.recorded(netns, stack)


STEPS: dict[str, Callable[[Builds], Iterator[Line]]] = {
    "kernel": kernel_facts,
    "verifier": verdicts,
    "attach": attaches,
    "fuzz": fuzz,
    "pairing": pairing,
    "loader": real_loader,
    "links": stacked_links,
}


def main() -> int:
    """Run the named steps. Exit code 1: a step ended with an exception (in its line)."""
    parser = argparse.ArgumentParser(prog="python -m tests.kernels.guest", description=__doc__)
    parser.add_argument("steps", choices=STEPS, nargs="+")
    parser.add_argument("--bytecode", type=Path, default=BYTECODE, help=f"default {BYTECODE}")
    options = parser.parse_args()
    builds = {build.name: build for build in read_builds(options.bytecode)}
    failed = 0
    for name in options.steps:
        begin_s = time.monotonic()
        try:
            for line in STEPS[name](builds):
                _say({"step": name} | line)
        except Exception:  # noqa: BLE001 (reported to the host, the next step runs all the same)
            failed = 1
            _say({"step": name, "failed": traceback.format_exc()[-3000:]})
        _say({"step": name, "seconds": round(time.monotonic() - begin_s, 1)})
    return failed


def _say(line: Line) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
