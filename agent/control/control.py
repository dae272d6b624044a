# SPDX-License-Identifier: Apache-2.0
"""All that makes an agent one of a cluster, together: it follows plan and pods, and asks for names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypedDict

from agent.control.asker import Asker
from agent.control.client import ControllerAddress
from agent.control.controller_clock import own_offset_ns
from agent.control.follower import PlanFollower
from agent.control.pods import Look, PodFollower
from agent.control.rules import RulesSender
from agent.control.source import ControlledPlan
from agent.loading.loader import LoadStopped
from agent.network.links import Link

_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """How to be an agent of a cluster. `pods` looks at the node's own; `inventory`: the node as JSON."""

    address: ControllerAddress
    node: str
    pods: Look
    inventory: Callable[[], bytes]
    nic: str | None = None
    keep: Path | None = None
    """Where the last plan is kept."""
    rules: Callable[[], bytes | None] = lambda: None
    """NAT rules of the node, as JSON."""


class ControlState(TypedDict):
    """As agent.metrics.snapshot.ControlFacts."""

    has_answer: bool
    ahead_s: float
    counts: Mapping[str, int]
    pods: int
    knows_pods: bool


class Control:
    """Its threads run from the start on; close() ends them."""

    def __init__(self, config: ControlConfig) -> None:
        self.asker = Asker(config.address)
        self.follower = PlanFollower(config.address, config.node, config.inventory, config.keep)
        self.pods = PodFollower(config.pods)
        self.rules = RulesSender(config.address, config.node, config.rules)
        self._nic = config.nic
        self.follower.start()
        self.asker.start()
        self.pods.start()
        self.rules.start()

    def plan_source(self, links: Callable[[], Sequence[Link]], stop: Callable[[], bool]) -> ControlledPlan:
        """The plan, as soon as there is one; interfaces are asked for by `links`. Raises LoadStopped."""
        while self.follower.wait(_LOOK_S) is None:
            if stop():
                raise LoadStopped("there is no plan yet")
        source = ControlledPlan(self.follower, self.pods, self.asker, self._nic)
        source.use(links)
        return source

    @property
    def cluster(self) -> str:
        """The cluster's name, by its plan."""
        return "" if self.follower.plan is None else self.follower.plan.cluster

    def facts(self) -> ControlState:
        """Of this moment, for /metrics."""
        return {
            "has_answer": not self.follower.problem,
            "ahead_s": self.asker.clock.ahead_ns(own_offset_ns()) / 1e9,
            "counts": {**self.follower.counts, **self.asker.counts, **self.rules.counts},
            "pods": len(self.pods.now.found),
            "knows_pods": not self.pods.now.problem,
        }

    def close(self) -> None:
        """End."""
        for each in (self.follower, self.asker, self.pods, self.rules):
            each.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
