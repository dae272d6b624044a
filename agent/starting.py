# SPDX-License-Identifier: Apache-2.0
"""What an agent does first: lock, plan, and the compiler in its child process.

While it compiles the agent imports the rest (numpy is a tenth of a second), opens its store and sockets: so
nothing heavy is imported here.
"""

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agent.loading.background import Loading
from agent.loading.cache import ProgramCache
from agent.loading.loader import Loaded, load
from agent.lock import AgentLock
from agent.network.discover import completed
from agent.network.links import LinkWatch, links
from agent.plan.file import PlanFile, PlanSource
from agent.plan.model import Plan

if TYPE_CHECKING:
    from agent.control.control import Control


class Start:
    """The lock of this network namespace, its plan, and programs on their way. close() lets go of them.

    `stop` is asked while the programs are loaded. Raises AlreadyRunning, PlanError, DiscoveryError, OSError;
    LoadStopped: it was to end before there was a plan.
    """

    def __init__(
        self,
        plan_path: str | None,
        nic: str | None,
        stop: Callable[[], bool] = lambda: False,
        control: "Callable[[], Control] | None" = None,
    ) -> None:
        """`control`: how to be an agent of a cluster; its plan is waited for, `plan_path` does not count."""
        with ExitStack() as stack:
            self.lock = AgentLock()
            stack.callback(self.lock.close)
            self.watch = stack.enter_context(LinkWatch())
            self.control = None if control is None else stack.enter_context(control())
            self.plan_file: PlanSource | None = PlanFile(plan_path) if plan_path else None
            if self.control is not None:
                self.plan_file = self.control.plan_source(lambda: list(self.watch.known.values()), stop)
            self.base = _plan_without_file(nic) if self.plan_file is None else self.plan_file.plan
            """As given."""
            self.plan = completed(self.base, links())
            """With what the interfaces add."""
            spec, cache = self.plan.spec(), ProgramCache.of_this_machine()
            self._loading: Loading | None = Loading(
                lambda is_discarded: load(spec, cache=cache, stop=lambda: stop() or is_discarded())
            )
            stack.callback(self._discard)
            self._open = stack.pop_all()

    def programs(self) -> Loaded:
        """The programs of the plan, once; waits for them. Raises LoaderError (LoadStopped)."""
        assert self._loading is not None, "programs() takes them away"
        loading, self._loading = self._loading, None
        return loading.result()

    def close(self) -> None:
        """Let the next agent in."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _discard(self) -> None:
        if self._loading is not None:
            self._loading.discard()


def _plan_without_file(nic: str | None) -> Plan:
    return Plan(nic=(nic,)) if nic else Plan()
