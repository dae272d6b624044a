# SPDX-License-Identifier: Apache-2.0
"""A store with a clock of its own, for tests of compacting and reading."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from store.appender import Appender, Limits
from store.compaction import Rules
from store.compactor import Compactor, Settings
from store.embedded import EmbeddedStore
from store.merging import Surroundings
from store.query import Span
from tests.unit.store.rows import events

S = 1_000_000_000
HOUR = 3600 * S
NOON = 1_699_963_200 * S
EVER = Span(0, 1 << 62)
AT_ONCE = Settings(Rules(age_s=0), grace_s=30)


@dataclass
class Town:
    """Appenders, a compactor and readers of the store at `path`."""

    path: Path
    now_ns: int = NOON
    settings: Settings = AT_ONCE
    steps: list[str] = field(default_factory=list)

    def appender(self, node: str = "n1", limits: Limits | None = None) -> Appender:
        return Appender(
            self.path,
            "c",
            node,
            clock=lambda: self.now_ns,
            monotonic=lambda: self.now_ns / S,
            limits=limits or Limits(),
        )

    def append(self, *details: str, node: str = "n1") -> None:
        """Events in a segment of their own, a second later."""
        self.now_ns += S
        with self.appender(node) as appender:
            appender.append(events(*details))

    def compactor(self, step: Callable[[str], None] | None = None) -> Compactor:
        around = Surroundings(
            clock_ns=lambda: self.now_ns,
            monotonic_s=lambda: self.now_ns / S,
            step=step or self.steps.append,
        )
        return Compactor(self.path, self.settings, around)

    def details(self) -> list[str]:
        """Of all events that a reader sees, in order of time."""
        store = EmbeddedStore(self.path)
        try:
            found = [str(each) for each in store.events(EVER)["detail"]]
            assert store.problems == []
        finally:
            store.close()
        return found

    def files(self, node: str = "n1", table: str = "event") -> list[str]:
        return sorted(path.name for path in (self.path / table / node).iterdir())
