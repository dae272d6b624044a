# SPDX-License-Identifier: Apache-2.0
"""What an agent does first: lock, plan, and the compiler in its child process.

While it compiles the agent imports the rest (numpy is a tenth of a second), opens its store and sockets: so
nothing heavy is imported here.
"""

from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from agent.loading.background import Loading
from agent.loading.cache import ProgramCache
from agent.loading.loader import Loaded, load
from agent.lock import AgentLock
from agent.network.discover import completed
from agent.network.links import LinkWatch, links
from agent.plan.file import PlanFile
from agent.plan.model import Plan


class Start:
    """The lock of this network namespace, its plan, and programs on their way. close() lets go of them.

    `stop` is asked while the programs are loaded. Raises AlreadyRunning, PlanError, DiscoveryError, OSError.
    """

    def __init__(
        self, plan_path: str | None, nic: str | None, stop: Callable[[], bool] = lambda: False
    ) -> None:
        with ExitStack() as stack:
            self.lock = AgentLock()
            stack.callback(self.lock.close)
            self.plan_file = PlanFile(plan_path) if plan_path else None
            self.watch = stack.enter_context(LinkWatch())
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
