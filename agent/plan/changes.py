# SPDX-License-Identifier: Apache-2.0
"""From a plan that changed to the plan that is followed: checked, programs loaded in the background."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from agent.hooks.points import wanted
from agent.loading.background import Loading
from agent.loading.loader import Loaded, LoaderError
from agent.network.discover import completed
from agent.network.links import links
from agent.network.nic import DiscoveryError
from agent.plan.file import PlanSource
from agent.plan.model import Plan
from bpf.spec import ProgramSpec

_log = logging.getLogger(__name__)

Load = Callable[[ProgramSpec, Callable[[], bool]], Loaded]


@dataclass(frozen=True, slots=True)
class NewPlan:
    """A plan that can be followed now."""

    base: Plan
    """As the file has it."""
    plan: Plan
    """`base`, completed."""
    programs: Loaded | None
    """New programs, the taker's from now on; None: those that run fit."""


@dataclass(frozen=True, slots=True)
class _Change:
    base: Plan
    plan: Plan
    loading: Loading | None


class PlanChanges:
    """Looks after where the plan comes from (None: nowhere). `refused` is told why a plan is not followed."""

    def __init__(self, file: PlanSource | None, load: Load, refused: Callable[[str], None]) -> None:
        self._file = file
        self._load = load
        self._refused = refused
        self._change: _Change | None = None

    @property
    def is_pending(self) -> bool:
        """Whether a plan waits for its programs."""
        return self._change is not None

    def look(self, spec: ProgramSpec) -> None:
        """See whether the file says something new; `spec` is that of the programs that run."""
        if self._file is None or self._change is not None or not self._file.poll():
            return
        if self._file.error is not None:
            for problem in self._file.error.problems:
                _log.error("the plan is wrong, the old one stays", extra={"problem": str(problem)})
            self._refused(str(self._file.error))
            return
        try:
            plan = completed(self._file.plan, links())
            wanted(plan, links())
        except DiscoveryError as error:
            self._refuse(error)
            return
        loading = None if plan.spec() == spec else Loading(partial(self._load, plan.spec()))
        self._change = _Change(self._file.plan, plan, loading)

    def take(self) -> NewPlan | None:
        """The new plan, once its programs are loaded; None: not yet, or none, or it was refused."""
        change = self._change
        if change is None or (change.loading is not None and not change.loading.done):
            return None
        self._change = None
        try:
            loaded = None if change.loading is None else change.loading.result()
        except (LoaderError, OSError) as error:
            self._refuse(error)
            return None
        return NewPlan(change.base, change.plan, loaded)

    def close(self) -> None:
        """Forget a plan that waits, soon."""
        if self._change is not None and self._change.loading is not None:
            self._change.loading.discard()
        self._change = None

    def _refuse(self, error: Exception) -> None:
        _log.error("the plan cannot be followed, the old one stays", extra={"reason": str(error)})
        self._refused(str(error))
