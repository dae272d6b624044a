# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus scrapes a real agent: what it knows then has our names, types, units and counts."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import le
from pathlib import Path
from typing import Any

import pytest
import yaml

from overhop.lab import Lab, Node
from tests.accept.agents import AgentProcess
from tests.accept.verdict import until
from tests.promtool import program
from tests.require import require_commands, require_root

REQUESTS = 200
PORT = 9090
TIMEOUT_S = 60.0
RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "overhop-rules.yaml"
CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: overhop
    static_configs: [{{targets: ["127.0.0.1:9464"]}}]
"""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs on a node."""

    node: Node

    def ask(self, path: str, **query: str) -> Any:  # noqa: ANN401  parsed JSON
        url = f"http://127.0.0.1:{PORT}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with self.node.netns.entered(), urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, query: str) -> dict[tuple[tuple[str, str], ...], float]:
        """By labels."""
        found = self.ask("query", query=query)["result"]
        return {tuple(sorted(each["metric"].items())): float(each["value"][1]) for each in found}

    def value(self, query: str) -> float:
        """The only one; 0: there is none."""
        return next(iter(self.values(query).values()), 0.0)

    def is_ready(self) -> bool:
        try:
            return bool(self.ask("targets")["activeTargets"])
        except OSError:
            return False


@contextmanager
def prometheus(node: Node, directory: Path) -> Iterator[Prometheus]:
    config = directory / "prometheus.yml"
    config.write_text(CONFIG.format(rules=RULES))
    argv = (
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{PORT}",
        "--log.level=error",
    )
    process = node.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        server = Prometheus(node)
        assert until(server.is_ready, bool, TIMEOUT_S)
        yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require_root()
    require_commands("ip", "bridge", "iptables", "ethtool")
    with Lab.make() as lab:
        lab.nodes[0].pod("client", namespace="shop")
        lab.nodes[1].pod("server", namespace="shop").serve_http(80)
        yield lab


@contextmanager
def scraping(node: Node, directory: Path, *store: str) -> Iterator[Prometheus]:
    """An agent that stores so, scraped."""
    arguments = (*store, "--metrics-listen", "127.0.0.1:9464")
    with AgentProcess(node, directory, node.plan(), arguments), prometheus(node, directory) as asked:
        yield asked


@pytest.fixture(scope="module")
def scraped(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """After 200 requests of an agent that stores, all of them scraped, the first half before the others."""
    directory = tmp_path_factory.mktemp("prometheus")
    client, server = lab.nodes[0].pods[0], lab.nodes[1].pods[0]
    with scraping(lab.nodes[0], directory, "--store", str(directory / "store")) as asked:
        for hops in (REQUESTS // 2, REQUESTS):
            client.http(server, requests=REQUESTS // 2, connections=4).require_ok()
            until(lambda: asked.value("sum(overhop_hops_total)"), partial(le, hops), TIMEOUT_S)
        yield asked


def test_prometheus_target_is_healthy(scraped: Prometheus) -> None:
    (target,) = scraped.ask("targets", state="active")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert target["scrapeUrl"] == "http://127.0.0.1:9464/metrics"
    assert scraped.value("max_over_time(scrape_duration_seconds[5m])") < 5


def test_prometheus_counts_every_hop_once(scraped: Prometheus) -> None:
    assert scraped.values("sum by (kind) (overhop_hops_total)") == {(("kind", "tx"),): REQUESTS}
    counted = scraped.value("sum(overhop_hop_latency_seconds_count)")
    again = scraped.value("sum(overhop_hops_retransmitted_total)")
    assert counted + again == REQUESTS
    assert scraped.value('overhop_hop_latency_seconds_bucket{le="+Inf"}') == counted


def test_prometheus_quantiles_are_seconds(scraped: Prometheus) -> None:
    query = "histogram_quantile(0.5, sum by (le) (overhop_hop_latency_seconds_bucket))"
    assert 1e-6 < scraped.value(query) < 1e-2
    mean = scraped.value("sum(overhop_hop_latency_seconds_sum)") / REQUESTS
    assert 1e-6 < mean < 1e-2


def test_prometheus_histogram_has_twenty_borders_from_1_us_to_100_ms(scraped: Prometheus) -> None:
    borders = [float(dict(labels)["le"]) for labels in scraped.values("overhop_hop_latency_seconds_bucket")]
    assert len(borders) == 21
    assert sorted(borders)[0] == 1e-6
    assert sorted(borders)[-2:] == [0.1, float("inf")]


def test_prometheus_knows_types_and_units(scraped: Prometheus) -> None:
    about = {name: each[0] for name, each in scraped.ask("metadata").items() if name.startswith("overhop_")}
    assert about["overhop_hop_latency_seconds"]["type"] == "histogram"
    assert about["overhop_ring_lag_ratio"]["type"] == about["overhop_store_up"]["type"] == "gauge"
    for name, each in about.items():
        assert each["help"].endswith("."), name
        assert (each["type"] == "counter") == name.endswith("_total"), name
    assert {name for name in about if name.endswith(("_ms", "_us", "_ns", "_milliseconds"))} == set()


def test_prometheus_has_no_label_of_node_or_pod(scraped: Prometheus) -> None:
    labels = {label for labels in scraped.values('{__name__=~"overhop_.+"}') for label, _ in labels}
    added = {"__name__", "instance", "job"}
    ours = {"kind", "src_workload", "dst_workload", "le", "encap", "context", "counter", "event", "table"}
    assert labels - added <= ours | {"version", "spec", "source"}


def test_prometheus_evaluates_our_rules_without_an_error(scraped: Prometheus) -> None:
    rules = [rule for group in scraped.ask("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == 24
    until(lambda: scraped.values("overhop:hops:rate5m"), bool, TIMEOUT_S)
    rules = [rule for group in scraped.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule.get("lastError")} == {}
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []


@pytest.mark.parametrize("quantile", ["p50", "p99"])
def test_prometheus_gets_quantiles_of_a_pair_by_our_rule(scraped: Prometheus, quantile: str) -> None:
    every = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    (rule,) = (each for each in every if each.get("record") == f"overhop:hop_latency_seconds:{quantile}_5m")
    found = scraped.values(rule["expr"])
    assert [dict(labels)["kind"] for labels in found] == ["tx"]
    assert [dict(labels)["src_workload"] for labels in found] == ["shop/client"]
    assert 1e-6 < next(iter(found.values())) <= 0.1


def test_prometheus_sees_rows_wait_for_a_server_that_is_not_there(lab: Lab, tmp_path: Path) -> None:
    store = ("--store", "influxdb1://127.0.0.1:9/", "--spool", str(tmp_path / "spool"))
    with scraping(lab.nodes[1], tmp_path, *store) as asked:
        until(lambda: asked.value('overhop_spool_rows{table="event"}'), bool, TIMEOUT_S)
        assert asked.value('overhop_spool_rows{table="event"}') > 0
        assert asked.values("overhop_forwarder_up == 0") != {}
        assert asked.value("sum(overhop_forwarded_rows_total)") == 0
        reasons = {dict(labels)["reason"] for labels in asked.values("overhop_spool_dropped_rows_total == 0")}
        assert reasons == {"rejected", "no_room", "too_old", "damaged"}
        assert asked.value("overhop_spool_limit_bytes") == 1 << 30
        assert asked.value("overhop_spool_bytes") > 0
        assert 0 <= asked.value("overhop_spool_oldest_seconds") < TIMEOUT_S
        about = {name: each[0]["type"] for name, each in asked.ask("metadata").items()}
        assert about["overhop_spool_dropped_rows_total"] == "counter"
        assert about["overhop_spool_oldest_seconds"] == about["overhop_spool_bytes"] == "gauge"
