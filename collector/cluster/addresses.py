# SPDX-License-Identifier: Apache-2.0
"""Whose an address was at a time: intervals [from, until) with the pod's uid.

An owner is told only where no other could be meant: not within WINDOW_NS of another owner, and not in a time
for which the API was not watched, unless the same pod was there before and after. Times are real time in ns.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

WINDOW_NS: Final = 5_000_000_000
"""Clocks of nodes and API server differ, and events take their time: two owners that near are ambiguous."""
KEPT_NS: Final = 600_000_000_000
"""How long an owner that is gone is remembered."""
OPEN: Final = 1 << 63
Said = Literal["owner", "ambiguous", "unknown"]


@dataclass(slots=True)
class Interval:
    """A pod had the address; `until_ns` OPEN: it has it still."""

    from_ns: int
    uid: str
    until_ns: int = OPEN


@dataclass(frozen=True, slots=True)
class Whose:
    """The answer; an interval with `owner` only."""

    said: Said
    interval: Interval | None = None


UNKNOWN: Final = Whose("unknown")
AMBIGUOUS: Final = Whose("ambiguous")


class AddressBook:
    """All addresses of pods that are not on the host's network. One thread at a time."""

    def __init__(self) -> None:
        self._by_address: dict[str, list[Interval]] = {}
        self._of_pod: dict[str, tuple[str, ...]] = {}
        self._ended: deque[tuple[int, str, str]] = deque()
        """When it was noted that one has ended, whose, and the address."""
        self._gaps: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return sum(map(len, self._by_address.values()))

    @property
    def shared(self) -> dict[str, tuple[str, ...]]:
        """Addresses that more than one pod has now, with the uids."""
        found = {}
        for address, intervals in self._by_address.items():
            if len(intervals) > 1:
                uids = tuple(each.uid for each in intervals if each.until_ns == OPEN)
                if len(uids) > 1:
                    found[address] = uids
        return found

    def has(self, uid: str, addresses: tuple[str, ...], from_ns: int, now_ns: int) -> None:
        """The pod has these addresses; if they are new to it, since `from_ns`. Others that it had end now."""
        before = self._of_pod.get(uid, ())
        if before == addresses:
            return
        for address in before:
            if address not in addresses:
                self._end(uid, address, now_ns, now_ns)
        for address in addresses:
            if address not in before:
                own = self._by_address.setdefault(address, [])
                insort(own, Interval(from_ns, uid), key=lambda each: each.from_ns)
        if addresses:
            self._of_pod[uid] = addresses
        else:
            self._of_pod.pop(uid, None)

    def ended(self, uid: str, until_ns: int, now_ns: int) -> None:
        """The pod has no address any more, since `until_ns`."""
        for address in self._of_pod.pop(uid, ()):
            self._end(uid, address, until_ns, now_ns)

    def gap(self, from_ns: int, until_ns: int) -> None:
        """What came and went between these times was not seen."""
        self._gaps.append((from_ns, until_ns))

    def whose(self, address: str, from_ns: int, until_ns: int) -> Whose:
        """Whose it was from one time to another: of the only pod that can be meant in all of it."""
        near = [
            each
            for each in self._by_address.get(address, ())
            if each.from_ns - WINDOW_NS <= until_ns and from_ns < each.until_ns + WINDOW_NS
        ]
        if len({each.uid for each in near}) > 1:
            return AMBIGUOUS
        own = next((each for each in near if each.from_ns <= until_ns), None)
        if own is None or any(_is_unsure(own, from_ns, until_ns, gap) for gap in self._gaps):
            return UNKNOWN
        return Whose("owner", own)

    def tidy(self, now_ns: int) -> None:
        """Forget who is gone for longer than KEPT_NS."""
        while self._ended and self._ended[0][0] < now_ns - KEPT_NS:
            _, uid, address = self._ended.popleft()
            intervals = self._by_address.get(address, [])
            intervals[:] = [each for each in intervals if each.uid != uid or each.until_ns == OPEN]
            if not intervals:
                self._by_address.pop(address, None)
        while self._gaps and self._gaps[0][1] < now_ns - KEPT_NS:
            self._gaps.popleft()

    def addresses(self) -> Iterator[str]:
        """All that have an owner now."""
        for addresses in self._of_pod.values():
            yield from addresses

    def _end(self, uid: str, address: str, until_ns: int, now_ns: int) -> None:
        for each in self._by_address.get(address, ()):
            if each.uid == uid and each.until_ns == OPEN:
                each.until_ns = max(until_ns, each.from_ns)
                self._ended.append((now_ns, uid, address))


def _is_unsure(own: Interval, from_ns: int, until_ns: int, gap: tuple[int, int]) -> bool:
    """Another might have had it then: a gap is there, and this one was not seen on both sides of it."""
    begin, end = gap
    is_in_gap = begin <= until_ns and from_ns < end
    if not (is_in_gap or own.until_ns <= begin <= until_ns):
        return False
    was_there = own.from_ns <= begin or own.from_ns + WINDOW_NS <= from_ns
    return not (was_there and own.until_ns >= end)
