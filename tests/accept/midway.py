# SPDX-License-Identifier: Apache-2.0
"""What goes wrong while the agent runs: an interface goes, the ring runs over, a disk is full."""

import json
import subprocess
import sys
from typing import Any

from agent.sockets.record import RecordError, record_client
from tests.accept import kernel_state
from tests.accept.agents import AgentProcess, imbalances
from tests.accept.lifecycle import HOPS_BETWEEN, NIC, Stage
from tests.accept.traffic import SteadyLoad
from tests.accept.verdict import Verdict

SECOND_NIC = "up1"
WAIT_S = 30.0
SMALL_RING_BYTES = 64 << 10
RING_RECORDS = SMALL_RING_BYTES // 136
OVERRUN_REQUESTS = 2000
TMPFS_BYTES = 64 << 10


def interface_gone(place: Stage, rate_hz: float) -> Verdict:
    """A NIC and a pod go in the middle and come back: one warning, and both are traced again."""
    verdict = Verdict("interface gone")
    add = f"link add {SECOND_NIC} type veth peer name {SECOND_NIC} netns {place.lab.external.netns.name}"
    place.node.netns.ip([add])
    plan = place.node.plan() | {"nic": [NIC, SECOND_NIC]}
    two_nics = kernel_state.one_set(NIC, place.vports) + kernel_state.one_set(SECOND_NIC, [])
    with AgentProcess(place.node, place.directory, plan=plan) as agent:
        with SteadyLoad(place.client, place.server, rate_hz) as load:
            _hooks_become(verdict, place, "at first", dict(two_nics))
            place.node.netns.ip([f"link del {SECOND_NIC}"])
            warned = agent.await_line("the NIC is not there: waiting for it", WAIT_S)
            verdict.equal("warned of", [line["ifname"] for line in warned], [SECOND_NIC])
            _hooks_become(verdict, place, "gone", dict(kernel_state.one_set(NIC, place.vports)))
            verdict.equal("hops meanwhile", agent.await_records(HOPS_BETWEEN) >= HOPS_BETWEEN, True)
            place.node.netns.ip([add])
            agent.await_line("the NIC is back", WAIT_S)
            _hooks_become(verdict, place, "back", dict(two_nics))
        load.check(verdict)
        complaints = [line for line in agent.lines() if line.get("level") != "info"]
        verdict.equal("complaints", complaints, warned)
        agent.terminate()
    place.node.netns.ip([f"link del {SECOND_NIC}"])
    return verdict


def overrun(place: Stage) -> Verdict:
    """The agent stops reading until its ring is full: every lost record is counted, no request fails."""
    verdict = Verdict("ring overrun")
    plan = place.node.plan() | {"program": {"ring_bytes": SMALL_RING_BYTES}}
    with AgentProcess(place.node, place.directory, plan=plan) as agent:
        agent.start_recording()
        agent.pause()
        try:
            result = place.client.http(place.server, requests=OVERRUN_REQUESTS, connections=16)
        finally:
            agent.resume()
        verdict.equal("answered", (result.ok, result.errors), (OVERRUN_REQUESTS, {}))
        counters = agent.settled_counters()
        verdict.equal("imbalances", imbalances(counters), {"first": 0, "second": 0, "taken": 0})
        verdict.equal("taken", counters["taken"], OVERRUN_REQUESTS)
        verdict.equal("ring_full", counters["ring_full"], OVERRUN_REQUESTS - counters["records"])
        verdict.equal("records, of what the ring holds", counters["records"] in _filled(), True)
        verdict.equal("records recorded", len(agent.recorded()), counters["records"])
        verdict.numbers |= {name: counters[name] for name in ("taken", "records", "ring_full")}
        _hops_shows(verdict, place, counters["ring_full"])
        more = place.client.http(place.server, requests=100).require_ok()
        verdict.equal("hops afterwards", agent.await_records(0) >= 0, True)
        after = agent.settled_counters()
        verdict.equal("records afterwards", after["records"] - counters["records"], len(more.status))
        agent.terminate()
    return verdict


def disk_full(place: Stage) -> Verdict:
    """The disk is full while every record is written: the lost ones are counted, the agent goes on."""
    verdict = Verdict("disk full")
    directory = place.directory / "small"
    directory.mkdir()
    script = f'mount -t tmpfs -o size={TMPFS_BYTES} none {directory} && exec "$@"'
    under = ("unshare", "--mount", "sh", "-c", script, "sh")
    with AgentProcess(place.node, place.directory, plan=place.node.plan(), under=under) as agent:
        socket = agent.socket("record")
        record_client(socket, f"START {directory}/records")
        place.client.http(place.server, requests=OVERRUN_REQUESTS, connections=16).require_ok()
        records = agent.settled_counters()["records"]
        verdict.equal("hops", records, OVERRUN_REQUESTS)
        status: dict[str, Any] = record_client(socket, "STOP")
        verdict.equal("written and lost", status["records"] + status["lost_disk"], records)
        verdict.equal("some lost", status["lost_disk"] > 0, True)
        verdict.equal("reason", status["write_error"], f"write {directory}/records: No space left on device")
        verdict.numbers |= {name: status[name] for name in ("records", "lost_disk")}
        verdict.equal("another recording", _refusal(agent, f"{directory}/again"), "No space left on device")
        agent.terminate()
    return verdict


def _filled() -> range:
    """How many records a full ring gave: it keeps a part of a record free, and was read once in between."""
    return range(RING_RECORDS - 1, RING_RECORDS + 16)


def _hooks_become(verdict: Verdict, place: Stage, when: str, expected: dict[str, int]) -> None:
    verdict.eventually(f"{when}: programs", lambda: dict(kernel_state.hooks(place.node)), expected, WAIT_S)


def _hops_shows(verdict: Verdict, place: Stage, ring_full: int) -> None:
    """`overhop hops` tells of the loss, to people and to machines."""
    for arguments, expected in (
        (("--json",), {"ring_full": ring_full}),
        ((), f"lost since start: ring_full {ring_full:,}"),
    ):
        with place.node.netns.entered():
            done = subprocess.run(
                (sys.executable, "-m", "overhop", "hops", "--once", "--interval", "0.1", *arguments),
                capture_output=True,
                text=True,
                timeout=WAIT_S,
                check=False,
            )
        found = json.loads(done.stdout)["lost"] if arguments else done.stdout.strip().splitlines()[-1]
        verdict.equal(f"hops {' '.join(arguments)} shows the loss", found, expected)


def _refusal(agent: AgentProcess, path: str) -> str:
    try:
        record_client(agent.socket("record"), f"START {path}")
    except RecordError as error:
        return str(error).rpartition(": ")[2]
    return "it was not refused"
