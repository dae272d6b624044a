# SPDX-License-Identifier: Apache-2.0
"""Follows the plan of this node, in a thread of its own; the last one stays while the controller is away."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from agent.control.client import ControllerAddress, ControllerClient, ControllerError
from agent.plan.contract import ContractError, NodePlan, parse_message

_log = logging.getLogger(__name__)

WAIT_S: Final = 50.0
"""How long the controller may keep a question for a new plan."""
INVENTORY_S: Final = 60.0
"""How often to look whether the node is another than what the controller was told."""
FIRST_WAIT_S: Final = 0.5
MAX_WAIT_S: Final = 8.0
_SLACK_S: Final = 10.0
_WANTED: Final = 409


class PlanFollower:
    """`plan`: the newest that was understood, None before the first; `problem`: why it may be old, or empty.

    `inventory`: what the controller wants to know of this node, as JSON. `keep`: a file where the plan is
    kept, for an agent that starts while the controller is away.
    """

    def __init__(
        self, address: ControllerAddress, node: str, inventory: Callable[[], bytes], keep: Path | None
    ) -> None:
        self.plan: NodePlan | None = None
        self.problem = ""
        self.counts = {"plans": 0, "plan_failures": 0, "inventories": 0}
        self._client = ControllerClient(address)
        self._path = f"/v1/nodes/{quote(node, safe='')}"
        self._node, self._inventory, self._keep = node, inventory, keep
        self._etag = ""
        self._sent: bytes | None = None
        self._next_inventory_s = 0.0
        self._stopping = threading.Event()
        self._has_plan = threading.Event()
        self._thread = threading.Thread(target=self._run, name="controller", daemon=True)
        self._recall()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End soon."""
        self._stopping.set()
        self._client.end()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._client.close()

    def wait(self, timeout_s: float) -> NodePlan | None:
        """The plan, as soon as there is one; None: not in that time."""
        self._has_plan.wait(timeout_s)
        return self.plan

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stopping.is_set():
            try:
                self._step()
            except (ControllerError, ContractError) as error:
                if self._stopping.is_set():
                    return
                if isinstance(error, ControllerError) and error.status == _WANTED:
                    self._sent = None
                    continue_at_s = 0.0
                else:
                    self._failed(str(error))
                    continue_at_s = wait_s * (0.5 + random.random())
                    wait_s = min(wait_s * 2, MAX_WAIT_S)
                self._stopping.wait(continue_at_s or 0.05)
            else:
                wait_s = FIRST_WAIT_S

    def _step(self) -> None:
        """Raises ControllerError, ContractError."""
        self._tell()
        headers = {"If-None-Match": self._etag} if self._etag else {}
        wait_s = WAIT_S if self._etag and not self.problem else 0.0
        path = f"{self._path}/plan?wait_s={wait_s:g}"
        reply = self._client.request("GET", path, headers=headers, timeout_s=wait_s + _SLACK_S)
        if reply.status == 200:
            plan = parse_message(reply.body, self._node)
            self._etag = reply.etag
            if plan != self.plan:
                self.plan = plan
                self.counts["plans"] += 1
                self._remember(reply.body)
            self._has_plan.set()
        if self.problem:
            _log.info("the controller answers again")
            self.problem = ""

    def _tell(self) -> None:
        """The inventory, if it is another or the controller asked for it. Raises ControllerError."""
        now_s = time.monotonic()
        if self._sent is not None and now_s < self._next_inventory_s:
            return
        self._next_inventory_s = now_s + INVENTORY_S
        found = self._inventory()
        if found == self._sent:
            return
        self._client.request("PUT", f"{self._path}/inventory", found)
        self._sent = found
        self.counts["inventories"] += 1

    def _failed(self, problem: str) -> None:
        self.counts["plan_failures"] += 1
        if problem != self.problem:
            _log.warning("the plan stays as it is", extra={"reason": problem})
        self.problem = problem

    def _remember(self, body: bytes) -> None:
        if self._keep is None:
            return
        new = self._keep.with_suffix(".new")
        try:
            self._keep.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.write_bytes(body)
            os.replace(new, self._keep)
        except OSError as error:
            _log.warning("cannot keep the plan", extra={"file": str(self._keep), "reason": error.strerror})

    def _recall(self) -> None:
        if self._keep is None:
            return
        with suppress(OSError, ContractError):
            self.plan = parse_message(self._keep.read_bytes(), self._node)
