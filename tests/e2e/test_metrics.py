# SPDX-License-Identifier: Apache-2.0
"""/metrics of a real agent on a node of a lab, after requests."""

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import overhop
from bpf.counters import NAMES
from bpf.spec import source_digest
from overhop.lab import Lab, Node
from tests.accept.agents import AgentProcess
from tests.accept.verdict import until
from tests.promtool import require_no_fault
from tests.require import require_commands, require_root

REQUESTS = 300
URL = "http://127.0.0.1:9464/metrics"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require_root()
    require_commands("ip", "bridge", "iptables", "ethtool")
    with Lab.make() as lab:
        lab.nodes[0].pod("client", namespace="shop")
        lab.nodes[1].pod("server", namespace="shop").serve_http(80)
        yield lab


def scraped(node: Node) -> str:
    with node.netns.entered(), urllib.request.urlopen(URL, timeout=10) as response:
        return str(response.read(), "utf-8")


def values(text: str, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Samples of a name by the values of these labels."""
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.parametrize("has_store", [True, False])
def test_metrics_of_a_running_agent_add_up_and_please_promtool(
    lab: Lab, tmp_path: Path, has_store: bool
) -> None:
    node, server = lab.nodes[0], lab.nodes[1].pods[0]
    store = str(tmp_path / "store") if has_store else "none"
    arguments = ("--store", store, "--metrics-listen", "127.0.0.1:9464")
    with AgentProcess(node, tmp_path, node.plan(), arguments) as agent:
        node.pods[0].http(server, requests=REQUESTS, connections=4).require_ok()
        text = until(
            lambda: scraped(node),
            lambda said: sum(values(said, "overhop_hops_total", "kind", "context").values()) >= REQUESTS,
            10.0,
        )
        if has_store:
            text = until(
                lambda: scraped(node),
                lambda said: values(said, "overhop_samples_total")[()] >= REQUESTS,
                10.0,
            )
        spec = agent.lines("tracing")[0]["spec"]
        agent.terminate()
    require_no_fault(text.encode())
    _assert_sums(text)
    info = values(text, "overhop_agent_info", "version", "spec", "source")
    assert info == {(overhop.__version__, spec, source_digest()): 1}
    if has_store:
        assert values(text, "overhop_store_up") == {(): 1}
        assert values(text, "overhop_store_rows_total", "table")["hop_sample",] >= REQUESTS
    else:
        assert "overhop_store" not in text


def _assert_sums(text: str) -> None:
    hops = values(text, "overhop_hops_total", "kind", "encap", "context")
    again = values(text, "overhop_hops_retransmitted_total", "kind", "encap", "context")
    counts = values(text, "overhop_hop_latency_seconds_count", "kind", "src_workload", "dst_workload")
    sums = values(text, "overhop_hop_latency_seconds_sum", "kind", "src_workload", "dst_workload")
    assert {kind for kind, _, _ in hops} == {"tx"}
    assert sum(hops.values()) == REQUESTS
    assert sum(counts.values()) == REQUESTS - sum(again.values())
    assert {source for _, source, _ in counts} == {"shop/client"}
    assert 0 < sum(sums.values()) < REQUESTS * 0.1
    packets = values(text, "overhop_datapath_packets_total", "counter")
    assert {name for (name,) in packets} == set(NAMES)
    assert packets["records",] == REQUESTS
    assert values(text, "overhop_stamps_waiting")[()] >= 0
    assert 0 <= values(text, "overhop_ring_lag_ratio")[()] <= 1
