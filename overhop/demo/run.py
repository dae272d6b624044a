# SPDX-License-Identifier: Apache-2.0
"""Carry out the demo: build the lab, start agents, send requests, gather what was seen, leave nothing."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from agent.summary import by_kind
from bpf.record import ContextKind
from overhop.demo.agents import NodeAgent, node_agents
from overhop.demo.found import Found, Route, Sent, find, shares, typical_trace
from overhop.demo.outcome import Account, NodePlace, Outcome, Stage
from overhop.lab import Host, Lab, Pod
from overhop.trace import NodeRecords, TraceHop, trace_hops

CONNECTIONS = 2
SERVICE_PORT, POD_PORT, NODE_PORT = 80, 8080, 30080
CONTEXTS = (ContextKind.W3C, ContextKind.B3_MULTI, ContextKind.B3_SINGLE, ContextKind.NONE)


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """How much is sent, and how the agents search it."""

    requests: int
    window: int | None = None
    """Bytes of a request that are searched for its context; None: the default of the program."""


@dataclass(slots=True)
class Steps:
    """Seconds that each step took; `tell` hears of it when a step begins."""

    tell: Callable[[str], None]
    took_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what happens inside, also if it fails."""
        self.tell(name)
        started_s = time.monotonic()
        try:
            yield
        finally:
            self.took_s[name] = time.monotonic() - started_s


@dataclass(frozen=True, slots=True)
class Town:
    """The lab's inhabitants."""

    lab: Lab
    client: Pod
    cache: Pod
    web: Pod


def run_demo(config: DemoConfig, steps: Steps) -> Outcome:
    """Everything from the empty machine to the empty machine. Raises LabError, DemoError."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="overhop-demo-")))
        with steps.step("build the lab"):
            town = _town(stack.enter_context(Lab.vxlan(nodes=2)))
        with steps.step("start an agent on each node"):
            agents = _agents(stack, town, directory, config)
        with steps.step("send the requests"):
            sent = _send(town, config.requests)
        with steps.step("gather the hops"):
            nodes, accounts = _gather(agents)
        topology, stage = town.lab.topology(), _stage(town)
        with steps.step("remove the lab"):
            stack.close()
    with steps.step("find each request's hops"):
        found = tuple(find(nodes, sent))
        trace_id, trace = _one_trace(nodes, found)
    return Outcome(
        topology=topology,
        stage=stage,
        found=found,
        hops=by_kind(np.concatenate([node.records for node in nodes])),
        hops_recorded={node.node: len(node.records) for node in nodes},
        accounts=accounts,
        trace_id=trace_id,
        trace=trace,
        steps_s=steps.took_s,
    )


def _town(lab: Lab) -> Town:
    n1, n2 = lab.nodes
    client = n1.pod("client", namespace="shop")
    cache = n1.pod("cache", namespace="shop")
    web = n2.pod("web", namespace="shop")
    for pod in (cache, web):
        pod.serve_http(POD_PORT)
    lab.service("web", port=SERVICE_PORT, backends=[web], target_port=POD_PORT, node_port=NODE_PORT)
    return Town(lab, client, cache, web)


def _agents(stack: ExitStack, town: Town, directory: Path, config: DemoConfig) -> list[NodeAgent]:
    """Both start at once, then both are waited for."""
    program = {} if config.window is None else {"window": config.window}
    agents = stack.enter_context(node_agents(town.lab.nodes, directory, program))
    for agent in agents:
        agent.await_tracing()
    for agent in agents:
        agent.start_recording()
    return agents


def _routes(town: Town) -> list[tuple[Host, Route]]:
    n1, n2 = (node.name for node in town.lab.nodes)
    service = town.lab.services[0]
    overlay = ((n1, "tx"), (n2, "rx"))
    return [
        (town.client, Route("service", "client", "service web", service.vip, SERVICE_PORT, overlay)),
        (town.client, Route("pod to pod", "client", "web", town.web.address, POD_PORT, overlay)),
        (
            town.client,
            Route("same node", "client", "cache", town.cache.address, POD_PORT, ((n1, "local"),)),
        ),
        (
            town.lab.external,
            Route(
                "node port",
                "external",
                f"{n1}:{NODE_PORT}",
                town.lab.nodes[0].address,
                NODE_PORT,
                ((n1, "forward"), (n2, "rx")),
            ),
        ),
    ]


def _send(town: Town, requests: int) -> list[Sent]:
    """Equal parts for each route and context, one after the other, so that they do not disturb each other."""
    loads = [(host, route, context) for context in CONTEXTS for host, route in _routes(town)]
    counts = shares(requests, len(loads))
    return [
        _send_one(host, route, context, count)
        for (host, route, context), count in zip(loads, counts, strict=True)
        if count
    ]


def _send_one(host: Host, route: Route, context: ContextKind, count: int) -> Sent:
    result = host.http(
        str(route.address), route.port, requests=count, connections=CONNECTIONS, context=context.label
    ).require_ok()
    trace_ids = () if context == ContextKind.NONE else tuple(result.trace_ids_hex())
    return Sent(route, context, count, trace_ids, result.source_ports)


def _gather(agents: list[NodeAgent]) -> tuple[list[NodeRecords], dict[str, Account]]:
    nodes = [agent.stop_recording() for agent in agents]
    for agent in agents:
        agent.ask_to_stop()
    return nodes, {agent.node.name: agent.finish() for agent in agents}


def _stage(town: Town) -> Stage:
    service = town.lab.services[0]
    nodes = tuple(
        NodePlace(node.name, str(node.address), {pod.name: str(pod.address) for pod in node.pods})
        for node in town.lab.nodes
    )
    return Stage(
        nodes=nodes,
        external=str(town.lab.external.address),
        service=f"service {service.name}",
        service_address=str(service.vip),
        service_line=f"{service.vip}:{SERVICE_PORT}, node port {NODE_PORT} → {town.web.name}:{POD_PORT}",
    )


def _one_trace(nodes: list[NodeRecords], found: tuple[Found, ...]) -> tuple[str, tuple[TraceHop, ...]]:
    """A typical trace of the first load that has any."""
    for load in found:
        if load.trace_ids:
            trace_id = typical_trace(nodes, load.trace_ids)
            return trace_id, tuple(trace_hops(nodes, trace_id))
    return "", ()
