# SPDX-License-Identifier: Apache-2.0
"""What changed on a node, as rows of the table `event`: at each change, and every 10 min what is the case."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from store.batch import Batch, Labels
from store.schema import EVENT

REPEAT_NS = 600_000_000_000
MAX_TEXT = 1000
"""Characters of a detail; what is longer is cut."""
MAX_WAITING = 1000
"""Events between two takes; later ones are left out and counted as one of their own."""


@dataclass(frozen=True, slots=True)
class Event:
    """One row: `what` is in `state` since `since_ns` (ns since 1970)."""

    what: str
    state: str
    detail: str
    since_ns: int


class Events:
    """Remembers what is the case, gives a row for each change."""

    def __init__(self) -> None:
        self._states: dict[str, Event] = {}
        self._due: list[Event] = []
        self._left_out = 0
        self._repeat_at_ns: int | None = None

    def state(self, what: str, state: str, now_ns: int, detail: str = "") -> None:
        """`what` is in this state. A new detail of the same state is a row too; `since` stays."""
        known = self._states.get(what)
        if known is not None and (known.state, known.detail) == (state, _cut(detail)):
            return
        since_ns = known.since_ns if known is not None and known.state == state else now_ns
        self._states[what] = Event(what, state, _cut(detail), since_ns)
        self._add(self._states[what])

    def happened(self, what: str, state: str, since_ns: int, detail: str = "") -> None:
        """Something that is over at once: it is not repeated."""
        self._add(Event(what, state, _cut(detail), since_ns))

    def renamed(self, what: str, state: str) -> None:
        """From now on `what` is called to be in `state`, without a row: a start goes over into running."""
        self._states[what] = replace(self._states[what], state=state)

    def take(self, mono_ns: int) -> Sequence[Event]:
        """Rows that are due at `mono_ns` (CLOCK_MONOTONIC), in order."""
        if self._repeat_at_ns is None:
            self._repeat_at_ns = mono_ns + REPEAT_NS
        if mono_ns >= self._repeat_at_ns:
            self._repeat_at_ns = mono_ns + REPEAT_NS
            changed = {event.what for event in self._due}
            self._due += [event for what, event in self._states.items() if what not in changed]
        due, self._due = self._due, []
        if self._left_out:
            due.append(Event("events", "left out", str(self._left_out), due[-1].since_ns))
            self._left_out = 0
        return due

    def _add(self, event: Event) -> None:
        if len(self._due) >= MAX_WAITING:
            self._left_out += 1
            return
        self._due.append(event)


def event_batch(events: Sequence[Event]) -> Batch:
    """Rows of the table `event`."""
    return Batch(
        EVENT,
        {
            "what": Labels.of([event.what for event in events]),
            "state": Labels.of([event.state for event in events]),
            "detail": Labels.of([event.detail for event in events]),
            "since": np.array([event.since_ns for event in events], np.int64),
        },
    )


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
