# SPDX-License-Identifier: Apache-2.0
"""Whose something was at a time: an address, an interface's index, a service's port."""

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

KEEP_NS = 600_000_000_000
"""How long a name outlives what it named."""
AMBIGUITY_NS = 5_000_000_000
"""Two owners within this time of a hop: it could be either."""
FOREVER_NS = 1 << 63

Key = TypeVar("Key", bound=Hashable)
Owner = TypeVar("Owner")


@dataclass(frozen=True, slots=True)
class Answer(Generic[Owner]):
    """An owner (None: nobody), and the times since_ns <= time < until_ns for which this is the answer."""

    owner: Owner | None
    since_ns: int = 0
    until_ns: int = FOREVER_NS


@dataclass(slots=True)
class _Span(Generic[Owner]):
    owner: Owner
    since_ns: int
    until_ns: int = FOREVER_NS

    @property
    def open_owner(self) -> Owner | None:
        """The owner, unless it is over."""
        return self.owner if self.until_ns == FOREVER_NS else None


class History(Generic[Key, Owner]):
    """Owners by key and time (ns, any one clock). `ambiguous` is the answer where two could be meant."""

    def __init__(self, ambiguous: Owner) -> None:
        self._ambiguous = ambiguous
        self._spans: dict[Key, list[_Span[Owner]]] = {}
        self._ended: deque[tuple[int, Key]] = deque()
        """When something ended, in the order of `change`."""

    def __len__(self) -> int:
        return len(self._spans)

    def update(self, current: Mapping[Key, Owner], now_ns: int) -> set[Key]:
        """From now on the owners are these and no others. Returns the keys whose owner changed."""
        return self.change({**dict.fromkeys(self._spans), **current}, now_ns)

    def change(self, owners: Mapping[Key, Owner | None], now_ns: int) -> set[Key]:
        """From now on these keys have these owners, or none. Returns those whose owner changed."""
        changed = set()
        for key, owner in owners.items():
            spans = self._spans.get(key)
            if (spans[-1].open_owner if spans else None) == owner:
                continue
            changed.add(key)
            if spans and spans[-1].until_ns == FOREVER_NS:
                spans[-1].until_ns = now_ns
                self._ended.append((now_ns, key))
            if owner is not None and spans:
                spans.append(_Span(owner, now_ns))
            elif owner is not None:
                # Nobody else is known to have had it before: then it was this one's all the time.
                self._spans[key] = [_Span(owner, 0)]
        self._forget(now_ns - KEEP_NS)
        return changed

    def rename(self, key: Key, owner: Owner) -> None:
        """The present owner of `key` is better known as `owner`."""
        self._spans[key][-1].owner = owner

    def present(self, key: Key) -> Owner | None:
        """The owner now."""
        spans = self._spans.get(key)
        return spans[-1].open_owner if spans else None

    def at(self, key: Key, time_ns: int) -> Answer[Owner]:
        """Whose `key` was at that time."""
        spans = self._spans.get(key)
        if spans is None:
            return Answer(None)
        if len(spans) == 1 and spans[0].until_ns == FOREVER_NS and not spans[0].since_ns:
            return Answer(spans[0].owner)
        near = [one for one in spans if _since(one) <= time_ns < one.until_ns + AMBIGUITY_NS]
        gone = [one for one in spans if one.until_ns <= time_ns < one.until_ns + KEEP_NS]
        edges = [edge for one in spans for edge in _edges(one)]
        since_ns = max((edge for edge in edges if edge <= time_ns), default=0)
        until_ns = min((edge for edge in edges if edge > time_ns), default=FOREVER_NS)
        if any(one.owner != near[0].owner for one in near):
            return Answer(self._ambiguous, since_ns, until_ns)
        found = near or gone
        return Answer(found[-1].owner if found else None, since_ns, until_ns)

    def _forget(self, before_ns: int) -> None:
        """Drop what ended longer ago than it is kept."""
        while self._ended and self._ended[0][0] < before_ns:
            _, key = self._ended.popleft()
            kept = [span for span in self._spans.pop(key, []) if span.until_ns >= before_ns]
            if kept:
                self._spans[key] = kept


def _since(span: _Span[Owner]) -> int:
    return max(span.since_ns - AMBIGUITY_NS, 0)


def _edges(span: _Span[Owner]) -> tuple[int, int, int]:
    """Where an answer can change."""
    return _since(span), span.until_ns + AMBIGUITY_NS, span.until_ns + KEEP_NS
