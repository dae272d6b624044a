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
        nodes, planning = facts["nodes"].values(), facts["planning"]
        about = {"version": facts["version"], "cluster": facts["cluster"]}
        yield InfoMetricFamily("overhop_controller", "Release and cluster.", about)
        gauges = {
            "leads": ("1: this one is asked.", float(self._leads())),
            "nodes": ("Nodes of the cluster.", len(nodes)),
            "agents": ("Nodes whose agent sent its inventory.", sum(each["has_agent"] for each in nodes)),
            "outdated_agents": ("Agents that know older contracts only.", len(facts["outdated"])),
            "problems": ("Watches that are not up to date.", len(facts["problems"])),
            "planning_seconds": ("What the last planning took.", planning["last_s"]),
        }
        for name, (said, value) in gauges.items():
            yield GaugeMetricFamily(f"overhop_controller_{name}", said, value)
        said = "Times that plans were made."
        yield CounterMetricFamily("overhop_controller_plannings", said, planning["count"])
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
