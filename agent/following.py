# SPDX-License-Identifier: Apache-2.0
"""Programs where the plan and the interfaces want them; what is not as it should be is said, once."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from agent.datapath import Datapath
from agent.hooks.attach import InterfaceGone
from agent.hooks.points import NIC_POINTS, Hook, wanted
from agent.hops.intake import Intake
from agent.naming.marks import is_mark
from agent.network.addresses import own_addresses
from agent.network.discover import completed
from agent.network.links import Link, LinkWatch
from agent.network.nic import DiscoveryError
from agent.plan.model import Plan, VportPlan
from agent.plan.names import Address
from agent.storing.chronicle import Chronicle

_log = logging.getLogger(__name__)


class Following:
    """Follows interfaces and plan, step by step; use() says which plan."""

    def __init__(self, watch: LinkWatch, datapath: Datapath, chronicle: Chronicle, intake: Intake) -> None:
        self.plan = Plan()
        """Completed by what there was when it became the plan."""
        self.is_settled = False
        """Nothing is left to do."""
        self.names: Mapping[int, str] = {}
        """What each interface is called, by ifindex."""
        self._watch = watch
        self._datapath = datapath
        self._chronicle = chronicle
        self._intake = intake
        self._base = Plan()
        self._named: tuple[Plan, Sequence[Link], int] | None = None
        self._own: frozenset[Address] = frozenset()
        self._missing: tuple[str, ...] = ()
        self._failed: frozenset[Hook] = frozenset()
        self._shadows: Mapping[Hook, str] = {}

    def fileno(self) -> int:
        """For poll(2): readable when interfaces or addresses changed."""
        return self._watch.fileno()

    def hear(self) -> None:
        """Take notice of interfaces and addresses that changed."""
        before = self._watch.address_changes
        if self._watch.events() or self._watch.address_changes != before:
            self.is_settled = False

    def use(self, base: Plan, plan: Plan) -> None:
        """From now on this is the plan: `base` as it was given, `plan` completed."""
        self._base, self.plan = base, plan
        self.is_settled = False

    def step(self, go_on: Callable[[], bool], *, is_start: bool) -> None:
        """Steps towards what the interfaces of this moment ask for, until `go_on` says no.

        Raises AttachError if the NIC cannot be traced and `is_start`.
        """
        present = list(self._watch.known.values())
        plan = completed(self._base.model_copy(update={"nic": self.plan.nic}), present)
        try:
            now_wanted = wanted(plan, present)
        except DiscoveryError as error:
            _log.error("interfaces changed, the programs stay as they are", extra={"reason": str(error)})
            self.is_settled = True
            return
        self._rename(plan, present)
        self._say_missing(now_wanted.missing_nics)
        self.is_settled = self._datapath.step(now_wanted, go_on)
        self._say_failed(is_start)
        if self.is_settled:
            self._chronicle.vports(len(self._datapath.vports))

    def check(self) -> None:
        """Try again what failed; look who runs before us, and which addresses are ours."""
        self._datapath.retry()
        self.is_settled = False
        self._named = None
        shadows = self._datapath.shadows()
        for hook, name in shadows.items():
            if self._shadows.get(hook) != name:
                where = {"ifname": self.names.get(hook.ifindex, ""), "point": hook.point.label}
                _log.warning(f"shadowed by {name}", extra=where)
        self._shadows = shadows
        self._chronicle.shadows(shadows, self.names)

    def _rename(self, plan: Plan, present: Sequence[Link]) -> None:
        """Before anything is attached: from the first hop on a vport has its name."""
        now = (plan, present, self._watch.address_changes)
        if self._named == now:
            return
        self._named = now
        self.names = {link.ifindex: _vport_name(link, plan) for link in present}
        try:
            self._own = own_addresses()
        except OSError as error:  # the ones before are mostly right
            _log.warning("cannot list this node's addresses", extra={"reason": str(error)})
        self._intake.update(plan, present, time.monotonic_ns(), self._own)

    def _say_missing(self, missing: tuple[str, ...]) -> None:
        for name in set(missing) - set(self._missing):
            _log.warning("the NIC is not there: waiting for it", extra={"ifname": name})
        for name in set(self._missing) - set(missing):
            _log.info("the NIC is back", extra={"ifname": name})
        self._missing = missing
        self._chronicle.nics_missing(missing)

    def _say_failed(self, is_start: bool) -> None:
        """Each failure once; at the start a NIC that cannot be traced is an error of the agent."""
        lasting: dict[str, str] = {}
        for hook, error in self._datapath.failed.items():
            if is_start and hook.point in NIC_POINTS:
                raise error
            if isinstance(error, InterfaceGone):
                continue
            lasting[self.names[hook.ifindex]] = str(error)
            if hook not in self._failed:
                _log.error("not traced", extra={"ifname": self.names[hook.ifindex], "reason": str(error)})
        self._failed = frozenset(self._datapath.failed)
        self._chronicle.not_traced(lasting)


def _vport_name(link: Link, plan: Plan) -> str:
    vport: VportPlan | None = plan.vport_for(link.name)
    if vport is None:
        return link.name
    name = vport.pod or vport.workload or link.name
    if is_mark(name):
        return link.name
    return f"{vport.namespace}/{name}" if vport.namespace else name
