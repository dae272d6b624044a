# SPDX-License-Identifier: Apache-2.0
"""Traces and summaries from the hops of real requests over a VXLAN lab of two nodes."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.clock import boot_id, take_offset
from agent.hops.series import SeriesTally
from agent.hops.summary import by_kind
from agent.naming.namer import Namer
from agent.network.links import Link
from agent.plan.model import Plan, VportPlan
from overhop.lab import Lab, Node, Pod, Service
from overhop.trace import NodeRecords, kinds_by_trace, trace_hops
from tests.accept.tracer import Tracer
from tests.require import require_commands

REQUESTS = 20


@dataclass(frozen=True, slots=True)
class Traced:
    """Requests to a service on the other node, and what both nodes saw of them."""

    client: Pod
    server: Pod
    service: Service
    links: list[Link]
    """Of the client's node: its vport."""
    trace_ids: list[str]
    nodes: list[NodeRecords]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    require_commands("ip", "bridge", "iptables")
    with ExitStack() as stack:
        lab = stack.enter_context(Lab.make(nodes=2))
        client = lab.nodes[0].pod("client", namespace="shop")
        server = lab.nodes[1].pod("server", namespace="shop", workload="web")
        server.serve_http(80)
        service = lab.service("web", backends=[server])
        tracers = [_traced_node(stack, node, tmp_path_factory.mktemp("agent")) for node in lab.nodes]
        sent = client.http(service, requests=REQUESTS).require_ok()
        yield Traced(
            client=client,
            server=server,
            service=service,
            links=[Link(tracers[0].ifindex(client.vport), client.vport)],
            trace_ids=sent.trace_ids_hex(),
            nodes=[
                NodeRecords(tracer.node.name, boot_id(), take_offset(), tracer.settle().records)
                for tracer in reversed(tracers)
            ],
        )


def _traced_node(stack: ExitStack, node: Node, directory: Path) -> Tracer:
    tracer = Tracer(node, directory)
    tracer.start()
    stack.enter_context(tracer).mark()
    return tracer


def test_kinds_by_trace_of_real_requests_are_tx_and_rx_each(traced: Traced) -> None:
    n2, n1 = (node.node for node in traced.nodes)
    found = kinds_by_trace(traced.nodes)
    assert {trace: found[trace] for trace in traced.trace_ids} == {
        trace: sorted([(n1, "tx"), (n2, "rx")]) for trace in traced.trace_ids
    }


def test_trace_hops_of_a_real_request_go_from_node_to_node(traced: Traced) -> None:
    n2, n1 = (node.node for node in traced.nodes)
    for trace in traced.trace_ids:
        tx, rx = trace_hops(traced.nodes, trace)
        assert [(tx.node, tx.kind), (rx.node, rx.kind)] == [(n1, "tx"), (n2, "rx")]
        assert tx.destination_before_nat == f"{traced.service.vip}:80"
        assert tx.destination == rx.destination == f"{traced.server.address}:80"
        assert tx.source == rx.source
        assert (tx.encap, rx.encap) == ("vxlan", "vxlan")
        assert tx.end_ns < rx.start_ns
        assert rx.wire is not None
        assert rx.wire.sure
        assert 0 < rx.wire.time_ns < 1_000_000_000


def test_summaries_of_real_requests_count_each_once(traced: Traced) -> None:
    receiving, sending = (by_kind(node.records) for node in traced.nodes)
    assert (list(sending), list(receiving)) == (["tx"], ["rx"])
    assert sending["tx"].count + sending["tx"].retransmitted == REQUESTS
    assert sending["tx"].quality["dnat"] == REQUESTS
    assert receiving["rx"].p50_us is not None
    assert 0 < receiving["rx"].p50_us < 100_000
    namer = Namer()
    namer.update(
        Plan(nic=("eth0",), vports=(VportPlan(match="*", namespace="shop", pod="client"),)), traced.links, 0
    )
    tally = SeriesTally(namer.rows, max_hops=REQUESTS, max_ends=REQUESTS)
    tally.add(traced.nodes[1].records)
    (series,) = tally.series()
    assert (str(series.source), str(series.destination)) == ("shop/client", str(traced.server.address))
    assert series.service == "unknown"
