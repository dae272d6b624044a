# SPDX-License-Identifier: Apache-2.0
"""What the demo knows at its end; report.py and view.py only show it."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.summary import Distribution
from overhop.demo.found import Found
from overhop.trace import TraceHop


@dataclass(frozen=True, slots=True)
class Account:
    """What one agent said at its end: counters of the kernel, and total minus parts of each identity."""

    counters: Mapping[str, int]
    imbalances: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class NodePlace:
    """A node and its pods, name to address."""

    name: str
    address: str
    pods: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the requests passed, for people."""

    nodes: tuple[NodePlace, ...]
    external: str
    """Address of the client outside the cluster."""
    service: str
    service_address: str
    service_line: str
    """What the service's address stands for."""

    def names(self) -> dict[str, str]:
        """Address to name."""
        found = {self.external: "external", self.service_address: self.service}
        for node in self.nodes:
            found |= {node.address: node.name} | {address: pod for pod, address in node.pods.items()}
        return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was sent and what was seen of it."""

    topology: Mapping[str, object]
    stage: Stage
    found: tuple[Found, ...]
    hops: Mapping[str, Distribution]
    """By kind, both nodes together."""
    hops_recorded: Mapping[str, int]
    """By node."""
    accounts: Mapping[str, Account]
    """By node."""
    trace_id: str
    trace: tuple[TraceHop, ...]
    """A typical one; empty if no request with a context was found."""
    steps_s: Mapping[str, float]
