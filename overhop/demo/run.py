# SPDX-License-Identifier: Apache-2.0
"""Carry out the demo: build the lab, start agents, send requests, gather what was seen, leave nothing."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from agent.summary import by_kind
from bpf.spec import ProgramSpec
from overhop.demo.agents import NodeAgent, node_agents
from overhop.demo.bookinfo import bookinfo_scene
from overhop.demo.found import Found, Sent, find, typical_trace
from overhop.demo.outcome import Account, Outcome
from overhop.demo.overlay import overlay_scene
from overhop.demo.scene import Scene, send, stage_of
from overhop.demo.sights import sights
from overhop.demo.steps import Steps
from overhop.lab import Lab
from overhop.lab.options import Cni
from overhop.trace import NodeRecords, TraceHop, trace_hops


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """What is built, how much is sent, and how the agents search it."""

    requests: int
    cni: Cni = "vxlan"
    with_sidecars: bool = True
    rate_hz: float | None = None
    """Requests per second; None: as the scene has it."""
    window: int | None = None
    """Bytes of a request that are searched for its context; None: the default of the program."""


@dataclass(frozen=True, slots=True)
class _Gathered:
    """What came back from the nodes."""

    sent: Sequence[Sent]
    nodes: Sequence[NodeRecords]
    accounts: dict[str, Account]


def run_demo(config: DemoConfig, steps: Steps) -> Outcome:
    """Everything from the empty machine to the empty machine. Raises LabError, DemoError."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="overhop-demo-")))
        scene = _build(stack, config, steps)
        gathered = _trace(scene, directory, config, steps)
        topology = scene.lab.topology()
        with steps.step("remove the lab"):
            stack.close()
    with steps.step("find each request's hops"):
        return _outcome(scene, topology, gathered, config, steps)


def _build(stack: ExitStack, config: DemoConfig, steps: Steps) -> Scene:
    with steps.step("build the lab"):
        lab = stack.enter_context(Lab.make(config.cni))
    if config.with_sidecars:
        with steps.step("start services and sidecars"):
            return bookinfo_scene(lab)
    with steps.step("start the servers"):
        return overlay_scene(lab)


def _trace(scene: Scene, directory: Path, config: DemoConfig, steps: Steps) -> _Gathered:
    """From the start of the agents to their end."""
    program = {} if config.window is None else {"window": config.window}
    with ExitStack() as stack:
        with steps.step("start an agent on each node"):
            agents = _started(stack.enter_context(node_agents(scene.lab.nodes, directory, program)))
        with steps.step("send the requests"):
            sent = send(scene, config.requests, config.rate_hz)
        with steps.step("gather the hops"):
            return _Gathered(sent, *_gather(agents))


def _started(agents: list[NodeAgent]) -> list[NodeAgent]:
    """They were started at once, now both are waited for."""
    for agent in agents:
        agent.await_tracing()
    for agent in agents:
        agent.start_recording()
    return agents


def _gather(agents: list[NodeAgent]) -> tuple[list[NodeRecords], dict[str, Account]]:
    nodes = [agent.stop_recording() for agent in agents]
    for agent in agents:
        agent.ask_to_stop()
    return nodes, {agent.node.name: agent.finish() for agent in agents}


def _outcome(
    scene: Scene, topology: dict[str, object], gathered: _Gathered, config: DemoConfig, steps: Steps
) -> Outcome:
    found = tuple(find(gathered.nodes, gathered.sent))
    trace_id, trace = _one_trace(gathered.nodes, found)
    return Outcome(
        topology=topology,
        stage=stage_of(scene),
        window=config.window or ProgramSpec().window,
        sidecar_offset_bytes=scene.sidecar_offset_bytes,
        found=found,
        hops=by_kind(np.concatenate([node.records for node in gathered.nodes])),
        sights=sights(gathered.nodes, [stop for trip in scene.trips for stop in trip.route.stops]),
        hops_recorded={node.node: len(node.records) for node in gathered.nodes},
        accounts=gathered.accounts,
        trace_id=trace_id,
        trace=trace,
        steps_s=steps.took_s,
    )


def _one_trace(nodes: Sequence[NodeRecords], found: tuple[Found, ...]) -> tuple[str, tuple[TraceHop, ...]]:
    """A typical trace of the first load that has any."""
    for load in found:
        if load.trace_ids:
            trace_id = typical_trace(nodes, load.trace_ids)
            return trace_id, tuple(trace_hops(nodes, trace_id))
    return "", ()
