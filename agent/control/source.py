# SPDX-License-Identifier: Apache-2.0
"""The plan of an agent of a cluster, as agent.plan.file.PlanFile is of one that has a file."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from agent.control.asker import Asker
from agent.control.compose import composed, waiting
from agent.control.follower import PlanFollower
from agent.control.pods import PodFollower, Pods
from agent.network.links import Link
from agent.plan.contract import NodePlan
from agent.plan.model import Plan, PlanError

NOTHING: Final = NodePlan(cluster="", node="-")
"""Before the first plan: nobody is traced."""


class ControlledPlan:
    """Call `poll` often: it costs nothing while nothing changes."""

    error: PlanError | None = None

    def __init__(
        self,
        follower: PlanFollower,
        pods: PodFollower,
        asker: Asker,
        nic: str | None,
    ) -> None:
        self._follower, self._pods, self._asker, self._nic = follower, pods, asker, nic
        self._links: Callable[[], Sequence[Link]] = tuple
        self._made_from: tuple[NodePlan | None, Pods, Mapping[str, str], Sequence[Link]] | None = None
        self._waiting: frozenset[str] = frozenset()
        self.plan = Plan()

    def use(self, links: Callable[[], Sequence[Link]]) -> None:
        """Interfaces are asked for here from now on."""
        self._links = links
        self.poll()

    def poll(self) -> bool:
        """Whether `plan` is another now."""
        links = self._links()
        made_from = (self._follower.plan, self._pods.now, self._asker.workloads, links)
        if self._made_from is not None and all(map(_is_same, made_from, self._made_from)):
            return False
        if self._made_from is None or self._made_from[1] is not made_from[1]:
            self._asker.know(made_from[1].found)
        self._made_from = made_from
        node_plan, pods, workloads, _ = made_from
        before = self.plan
        self.plan = composed(node_plan or NOTHING, pods.found, workloads, links, self._nic)
        unowned = waiting(links, pods.found, self.plan.nic)
        if unowned - self._waiting:
            self._pods.hurry()
        elif not unowned:
            self._pods.rest()
        self._waiting = unowned
        return before != self.plan


def _is_same(one: object, other: object) -> bool:
    return one is other or (isinstance(one, list | tuple) and one == other)
