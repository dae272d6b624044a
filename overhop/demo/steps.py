# SPDX-License-Identifier: Apache-2.0
"""What is being done, and how long it took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Steps:
    """Seconds that each step took; `tell` hears of it when a step begins."""

    tell: Callable[[str], None]
    took_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure what happens inside, also if it fails."""
        self.tell(name)
        started_s = time.monotonic()
        try:
            yield
        finally:
            self.took_s[name] = time.monotonic() - started_s
