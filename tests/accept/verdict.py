# SPDX-License-Identifier: Apache-2.0
"""What one acceptance run found: numbers, and the problems among them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from typing import Any, TypeVar

POLL_S = 0.02
_T = TypeVar("_T")


@dataclass(slots=True)
class Verdict:
    """Collects as it goes; PASS if there is no problem."""

    name: str
    numbers: dict[str, Any] = field(default_factory=dict)  # plain data for JSON
    problems: list[str] = field(default_factory=list)

    def equal(self, what: str, found: object, expected: object) -> None:
        """A problem, unless both are the same."""
        if found != expected:
            self.problems.append(f"{what}: {found}, expected {expected}")

    def at_most(self, what: str, found: float, limit: float) -> None:
        """A number; a problem, if it is beyond its limit."""
        self.numbers[what] = round(found, 4)
        if not found <= limit:
            self.problems.append(f"{what}: {found:.4g}, at most {limit:g} allowed")

    def eventually(self, what: str, look: Callable[[], object], expected: object, timeout_s: float) -> None:
        """A problem, unless `look` gives the expected within `timeout_s`: the kernel frees with a delay."""
        self.equal(what, until(look, lambda found: found == expected, timeout_s), expected)

    def __str__(self) -> str:
        """One line for people."""
        numbers = ", ".join(f"{name} {value}" for name, value in self.numbers.items())
        return f"{'FAIL' if self.problems else 'PASS'} {self.name}: {'; '.join([*self.problems, numbers])}"


def until(look: Callable[[], _T], good: Callable[[_T], bool], timeout_s: float) -> _T:
    """What `look` gave last: the first good one, or the one at the deadline."""
    deadline_s = time.monotonic() + timeout_s
    while not good(found := look()) and time.monotonic() < deadline_s:
        Event().wait(POLL_S)
    return found
