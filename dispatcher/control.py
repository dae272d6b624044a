# SPDX-License-Identifier: Apache-2.0
"""The plans of this moment, and who waits for a new one.

Planning runs in a thread of its own whenever something changed that plans depend on; those who wait are woken
in the event loop, and only those whose plan is another.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.plan.contract import NodePlan
from collector.cluster.state import ClusterState, Part
from collector.snapshot import NodeInventory
from dispatcher.planner import Planned, Planner
from dispatcher.policy import Policies

_log = logging.getLogger(__name__)

SETTLE_S: Final = 0.05
"""Changes come in crowds; one plan is made for all of them."""
_MATTERS: Final = frozenset({"nodes", "namespaces", "inventories"})


@dataclass(frozen=True, slots=True)
class Message:
    """A plan as it travels."""

    plan: NodePlan
    inventory: NodeInventory | None
    """What it was made from."""
    body: bytes
    etag: str


class Control:
    """`is_known`: whether nodes and namespaces were read from the API; before that there are no plans."""

    def __init__(self, state: ClusterState, policies: Policies, is_known: Callable[[], bool]) -> None:
        self.planned = Planned({})
        self.planned_in_s = 0.0
        """What the last planning took."""
        self.most_s = 0.0
        """What the longest one took."""
        self.plannings = 0
        self.findings: dict[str, list[dict[str, str]]] = {}
        """What doctor says on each node."""
        self._state, self._is_known = state, is_known
        self._planner = Planner(policies)
        self._messages: dict[str, Message] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_due = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="planner", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; whoever waits does so in `loop`."""
        self._loop = loop
        self._is_due.set()
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping = True
        self._is_due.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def changed(self, part: Part) -> None:
        """Something in the state changed; any thread."""
        if part in _MATTERS:
            self._is_due.set()

    def message(self, node: str) -> Message | None:
        """The plan of a node; None: there is none (yet)."""
        return self._messages.get(node)

    async def wait(self, node: str, timeout_s: float) -> None:
        """Until the node's plan changes, or that time is over."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(node, set())
        waiting.add(future)
        try:
            await asyncio.wait_for(future, timeout_s)
        except TimeoutError:
            pass
        finally:
            waiting.discard(future)
            if not waiting and self._waiting.get(node) is waiting:
                del self._waiting[node]

    async def planned_by(self, node: str, inventory: NodeInventory, timeout_s: float) -> None:
        """Until the node's plan is made by this inventory, or that time is over."""
        until_s = time.monotonic() + timeout_s
        while (left_s := until_s - time.monotonic()) > 0:
            message = self._messages.get(node)
            if (message is not None and message.inventory == inventory) or node in self.planned.outdated:
                return
            await self.wait(node, min(left_s, 0.25))

    @property
    def nodes_waiting(self) -> set[str]:
        """Whose agents wait for a plan right now."""
        return set(self._waiting)

    def _run(self) -> None:
        while True:
            self._is_due.wait()
            if self._stopping:
                return
            if not self._is_known():
                time.sleep(SETTLE_S)
                continue
            time.sleep(SETTLE_S)
            self._is_due.clear()
            self.plan()

    def plan(self) -> None:
        """Make plans of what is known now."""
        began_s = time.perf_counter()
        snapshot = self._state.planning()
        planned = self._planner.plan(snapshot)
        for line in set(planned.warnings) - set(self.planned.warnings):
            _log.warning("plan", extra={"warning": line})
        fresh = {
            node: Message(plan, snapshot.inventories.get(node), plan.as_json(), f'"{plan.digest}"')
            for node, plan in planned.plans.items()
            if (before := self._messages.get(node)) is None or before.plan is not plan
        }
        gone = self._messages.keys() - planned.plans.keys()
        for node in self.findings.keys() - snapshot.nodes.keys():
            self.findings.pop(node, None)
        kept = {node: each for node, each in self._messages.items() if node not in gone}
        self.planned, self._messages = planned, kept | fresh
        self.planned_in_s = time.perf_counter() - began_s
        self.most_s = max(self.most_s, self.planned_in_s)
        self.plannings += 1
        if self._loop is not None and (fresh or gone):
            self._loop.call_soon_threadsafe(self._wake, fresh.keys() | gone)

    def _wake(self, nodes: set[str]) -> None:
        for node in nodes:
            for future in self._waiting.get(node, ()):
                if not future.done():
                    future.set_result(None)
