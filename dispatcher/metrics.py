# SPDX-License-Identifier: Apache-2.0
"""What the controller tells Prometheus (docs/metrics.md, "Controller")."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector


class ControllerMetrics(Collector):
    """`facts`: as Controller.facts; `leads`: whether it is the one that is asked."""

    def __init__(self, facts: Callable[[], Mapping[str, Any]], leads: Callable[[], bool]) -> None:
        self._facts, self._leads = facts, leads

    def collect(self) -> Iterator[Metric]:
        """All of this moment."""
        facts = self._facts()
        nodes = facts["nodes"].values()
        yield InfoMetricFamily("overhop_controller", "Release and cluster.", {
            "version": facts["version"], "cluster": facts["cluster"],
        })  # fmt: skip
        yield GaugeMetricFamily("overhop_controller_leads", "1: this one is asked.", float(self._leads()))
        yield GaugeMetricFamily("overhop_controller_nodes", "Nodes of the cluster.", len(nodes))
        has_agent = sum(each["has_agent"] for each in nodes)
        yield GaugeMetricFamily(
            "overhop_controller_agents", "Nodes whose agent sent its inventory.", has_agent
        )
        outdated = len(facts["outdated"])
        yield GaugeMetricFamily(
            "overhop_controller_outdated_agents", "Agents that know older contracts only.", outdated
        )
        yield GaugeMetricFamily(
            "overhop_controller_problems", "Watches that are not up to date.", len(facts["problems"])
        )
        planning = facts["planning"]
        yield CounterMetricFamily(
            "overhop_controller_plannings", "Times that plans were made.", planning["count"]
        )
        yield GaugeMetricFamily(
            "overhop_controller_planning_seconds", "What the last one took.", planning["last_s"]
        )
        yield _by("overhop_controller_refused", "Requests refused, by status.", "status", facts["refused"])
        yield _by("overhop_controller_names", "Names asked for, by answer.", "answer", facts["names"])
        for what in ("events", "failed", "gone", "undecodable"):
            counts = {kind: each[what] for kind, each in facts["watched"].items()}
            yield _by(f"overhop_controller_watch_{what}", f"Of each watch: {what}.", "kind", counts)


def serve_metrics(
    host: str, port: int, facts: Callable[[], Mapping[str, Any]], leads: Callable[[], bool]
) -> Callable[[], None]:
    """Listens there; returns what ends it. Raises OSError."""
    registry = CollectorRegistry()
    registry.register(ControllerMetrics(facts, leads))
    server, thread = start_http_server(port, host, registry)

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end


def _by(name: str, documentation: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family
