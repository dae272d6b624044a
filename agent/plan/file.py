# SPDX-License-Identifier: Apache-2.0
"""A plan file that is read again when it changes."""

import os
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from agent.plan.model import Plan, PlanError, load_plan


@dataclass(frozen=True, slots=True)
class Signature:
    """What changes when somebody writes or replaces the file."""

    inode: int
    size_bytes: int
    mtime_ns: int


class Action(Enum):
    """What a look at the file asks for."""

    KEEP = "keep"
    WAIT = "wait"
    """It changed since the last look: whoever writes may not be done."""
    READ = "read"


def decide(loaded: Signature | None, last_seen: Signature | None, now: Signature | None) -> Action:
    """A file is read again once it differs from what was loaded and was the same at two looks in a row."""
    if now == loaded:
        return Action.KEEP
    return Action.READ if now == last_seen else Action.WAIT


class PlanSource(Protocol):
    """Where a plan comes from; `poll` is called often, and says whether `plan` or `error` is new."""

    plan: Plan
    error: PlanError | None
    """Why what there is now was not taken; None: `plan` is it."""

    def poll(self) -> bool:
        """Look."""


class PlanFile:
    """The plan in a file, and how to stay with it. Raises PlanError at first; later the old plan stays.

    Call `poll` about once a second; a change takes effect at the second look.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._loaded = self._last_seen = self._signature()
        self.plan = load_plan(self.path)
        self.error: PlanError | None = None
        """Why the file as it is now was not taken; None if `plan` is what it says."""

    def poll(self) -> bool:
        """Looks at the file. True if something was decided: `plan` is new, or `error` says why it is not."""
        now = self._signature()
        action = decide(self._loaded, self._last_seen, now)
        self._last_seen = now
        if action is not Action.READ:
            return False
        self._loaded = now
        return self._load()

    def _load(self) -> bool:
        before = (self.plan, str(self.error))
        try:
            self.plan, self.error = load_plan(self.path), None
        except PlanError as error:
            self.error = error
        return before != (self.plan, str(self.error))

    def _signature(self) -> Signature | None:
        try:
            status = os.stat(self.path)
        except OSError:
            return None  # load_plan says why
        return Signature(status.st_ino, status.st_size, status.st_mtime_ns)
