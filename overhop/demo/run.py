# SPDX-License-Identifier: Apache-2.0
"""Carry out the demo: build the lab, start agents, send requests, read what was stored, leave nothing."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.hops.summary import by_kind
from bpf.spec import ProgramSpec
from overhop.demo.agents import AgentFiles, NodeAgent, node_agents
from overhop.demo.bookinfo import bookinfo_scene
from overhop.demo.directory import demo_directory, sweep
from overhop.demo.found import Found, Sent, find, typical_trace
from overhop.demo.keeping import Keeping, in_directory, in_server
from overhop.demo.outcome import Account, Outcome
from overhop.demo.overlay import overlay_scene
from overhop.demo.scene import Scene, send, stage_of
from overhop.demo.serving import Invitation, invitation, serve
from overhop.demo.sights import sights
from overhop.demo.steps import Steps
from overhop.demo.stored import kept_of, read_back, read_hops
from overhop.lab import Lab
from overhop.lab.influxd import Server, find_influxd
from overhop.lab.netns import require_tools
from overhop.lab.options import Cni
from overhop.lab.tracers import Tracer
from overhop.sidecar.filters import Mode
from overhop.trace import NodeRecords, TraceHop


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What is built, how much is sent, how the agents search it, and what is left."""

    requests: int
    cni: Cni = "vxlan"
    with_sidecars: bool = True
    rate_hz: float | None = None
    """Requests per second; None: as the scene has it."""
    window: int | None = None
    """Bytes of a request that are searched for its context; None: the default of the program."""
    store: Path | Server | None = None
    """Directory where hops are stored and stay, or what is started for them; None: they go with the lab."""
    relocation: Mode = "lua"
    """By what sidecars move the context to the head of the header."""
    tracer: Tracer = "opentelemetry"
    serves: bool = False
    """The lab stays up after the result, until Ctrl-C."""


Show = Callable[[Outcome, Invitation | None], None]
"""Shows the outcome, with the invitation if the lab stays up."""


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What came back from the nodes."""

    since_ns: int
    sent: Sequence[Sent]
    nodes: Sequence[NodeRecords]
    accounts: dict[str, Account]


def run_demo(config: DemoConfig, steps: Steps, show: Show) -> Outcome:
    """Everything from the empty machine to the empty machine. Raises LabError, DemoError, StoreError."""
    require_tools()
    if isinstance(config.store, str):
        find_influxd(config.store)
    with ExitStack() as stack:
        directory = stack.enter_context(demo_directory())
        scene = _build(stack, config, steps)
        program = {} if config.window is None else {"window": config.window}
        keeping = _keep(scene.lab, directory, config.store, steps)
        files = AgentFiles(directory, keeping, program)
        gathered = _trace(scene, files, config, steps)
        with steps.step("read the store"):
            outcome = _outcome(scene, keeping, gathered, config, steps)
        if config.serves:
            steps.tell("start the agents again")
            with node_agents(scene.lab.nodes, files) as agents:
                show(outcome, invitation(scene, keeping))
                serve(scene, agents)
            return outcome
        with steps.step("remove the lab"):
            stack.close()
    show(outcome, None)
    return outcome


def _build(stack: ExitStack, config: DemoConfig, steps: Steps) -> Scene:
    with steps.step("build the lab"):
        lab = stack.enter_context(Lab.make(config.cni))
        sweep()
    if config.with_sidecars:
        with steps.step("start services and sidecars"):
            return bookinfo_scene(lab, config.relocation, config.tracer)
    with steps.step("start the servers"):
        return overlay_scene(lab)


def _keep(lab: Lab, directory: Path, wanted: Path | Server | None, steps: Steps) -> Keeping:
    if wanted is None or isinstance(wanted, Path):
        return in_directory(wanted or directory / "store", directory)
    with steps.step(f"start {wanted}"):
        return in_server(lab, wanted, directory)


def _trace(scene: Scene, files: AgentFiles, config: DemoConfig, steps: Steps) -> _Gathered:
    """From the start of the agents to their end."""
    since_ns = time.time_ns()
    with ExitStack() as stack:
        with steps.step("start an agent on each node"):
            agents = stack.enter_context(node_agents(scene.lab.nodes, files))
            for agent in agents:
                agent.start_recording()
        with steps.step("send the requests"):
            sent = send(scene, config.requests, config.rate_hz)
        with steps.step("gather the hops"):
            return _Gathered(since_ns, sent, *_gather(agents))


def _gather(agents: list[NodeAgent]) -> tuple[list[NodeRecords], dict[str, Account]]:
    nodes = [agent.stop_recording() for agent in agents]
    for agent in agents:
        agent.ask_to_stop()
    return nodes, {agent.node.name: agent.finish() for agent in agents}


def _outcome(
    scene: Scene, keeping: Keeping, gathered: _Gathered, config: DemoConfig, steps: Steps
) -> Outcome:
    found = tuple(find(gathered.nodes, gathered.sent))
    recorded = {node.node: len(node.records) for node in gathered.nodes}
    stored, shift = read_back(keeping, gathered.since_ns, recorded, sum(recorded.values()) + 1)
    trace_id, trace = _one_trace(gathered.nodes, found, keeping, shift)
    return Outcome(
        topology=scene.lab.topology(),
        stage=stage_of(scene),
        window=config.window or ProgramSpec().window,
        sidecar_offset_bytes=scene.sidecar_offset_bytes,
        relocation=scene.relocation,
        found=found,
        hops=by_kind(np.concatenate([node.records for node in gathered.nodes])),
        sights=sights(gathered.nodes, [stop for trip in scene.trips for stop in trip.route.stops]),
        hops_recorded=recorded,
        accounts=gathered.accounts,
        store=str(keeping.place) if config.serves or config.store else "",
        stored=stored,
        trace_id=trace_id,
        trace=trace,
        steps_s=steps.took_s,
    )


def _one_trace(
    nodes: Sequence[NodeRecords], found: Sequence[Found], keeping: Keeping, shift: int
) -> tuple[str, tuple[TraceHop, ...]]:
    """A typical one of the traces that were kept, of the first load that has any."""
    for load in found:
        if kept := kept_of(load.trace_ids, shift):
            trace_id = typical_trace(nodes, kept)
            return trace_id, read_hops(keeping, trace_id)
    return "", ()
