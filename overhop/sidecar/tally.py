# SPDX-License-Identifier: Apache-2.0
"""Counts: packets by what they are, requests by what became of them, contexts by place and sender."""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum

from overhop.sidecar.head import Head, Whole
from overhop.sidecar.packets import Segment, Tunnels, Why, segment_of
from overhop.sidecar.pcap import Frame
from overhop.sidecar.relocated import first_before
from overhop.sidecar.search import ALL_KINDS, Place, Searched, search
from overhop.sidecar.streams import Streams

MOST_SENDERS = 4096
"""What further ones send is counted together."""
MOST_NAMES = 64
"""Of headers, per sender."""
OTHERS = b""
"""The sender that stands for those beyond."""
_RECENT = 1 << 15
"""Requests among which a second copy of one is looked for: milliseconds of a loaded node."""


class Outcome(StrEnum):
    """What became of a request; every one is counted under exactly one."""

    CONTEXT = "context"
    NO_CONTEXT = "no_context"
    BAD_CONTEXT = "bad_context"
    CUT = "cut"
    INCOMPLETE = "incomplete"
    BEHIND_ANOTHER = "behind_another"
    COPY = "copy"


@dataclass(slots=True)
class Sender:
    """What one address sent: requests with a context only."""

    requests: int = 0
    relocated: int = 0
    """Before their context stands nothing but the host."""
    found: int = 0
    """Within the window that was asked for."""
    offsets: Counter[int] = field(default_factory=Counter)
    before: Counter[str] = field(default_factory=Counter)
    """Names of the first header in the way, of requests that are not relocated."""


@dataclass(slots=True)
class Counts:
    """All that is known once every packet was seen."""

    packets: Counter[Why] = field(default_factory=Counter)
    requests: Counter[Outcome] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    windows: Counter[int] = field(default_factory=Counter)
    """Requests by the smallest window from which on the tracer finds their context."""
    lucky: Counter[int] = field(default_factory=Counter)
    """Requests whose context a smaller window finds by chance, by that window."""
    split: int = 0
    """Requests whose context ends behind their first packet: found by no window."""
    offsets: Counter[int] = field(default_factory=Counter)
    senders: dict[bytes, Sender] = field(default_factory=dict)
    """By address, 4 or 16 bytes; OTHERS."""

    @property
    def with_context(self) -> int:
        """Requests of which shares are taken."""
        return self.requests[Outcome.CONTEXT]

    def found(self, window: int) -> int:
        """Requests whose context the tracer finds within so many bytes."""
        within = sum(count for needed, count in self.windows.items() if needed <= window)
        return within + self.lucky[window]


class Tally:
    """Takes frames, and counts."""

    def __init__(
        self, window: int, tunnels: Tunnels | None = None, kinds: frozenset[str] = ALL_KINDS
    ) -> None:
        self.counts = Counts()
        self._window, self._kinds = window, kinds
        self._tunnels = tunnels or Tunnels()
        self._streams = Streams(self.take_head)
        self._recent: OrderedDict[tuple[int, int, int], None] = OrderedDict()

    def take(self, frame: Frame) -> None:
        """One packet."""
        segment = segment_of(frame, self._tunnels)
        why = self._streams.add(segment) if isinstance(segment, Segment) else segment
        self.counts.packets[why] += 1

    def end(self) -> Counts:
        """No more packets come."""
        self._streams.end()
        return self.counts

    def take_head(self, head: Head) -> None:
        """One request, as far as it is there."""
        counts = self.counts
        if self._is_copy(head):
            counts.requests[Outcome.COPY] += 1
        elif not head.is_seen:
            counts.requests[Outcome.BEHIND_ANOTHER] += 1
        else:
            counts.requests[self._judged(head)] += 1

    def _is_copy(self, head: Head) -> bool:
        """Whether it was seen elsewhere: NAT and overlays change neither these numbers nor the payload."""
        key = (head.seq, head.ack, hash(head.data))
        if key in self._recent:
            return True
        self._recent[key] = None
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        return False

    def _judged(self, head: Head) -> Outcome:
        data, is_split = _certain(head), False
        searched = first = search(data[: head.first_bytes], self._kinds)
        if first.place is None and head.first_bytes < len(data):
            searched, is_split = search(data, self._kinds), True
        if searched.place is not None:
            self._count(head, first, searched.place, is_split=is_split)
            return Outcome.CONTEXT
        if head.whole is not Whole.WHOLE:
            return Outcome.CUT if head.whole is Whole.CUT else Outcome.INCOMPLETE
        return Outcome.BAD_CONTEXT if searched.is_bad else Outcome.NO_CONTEXT

    def _count(self, head: Head, first: Searched, place: Place, *, is_split: bool) -> None:
        """A request with a context; `first` is what its first packet has."""
        counts, sender = self.counts, self._sender(head.src)
        counts.kinds[place.kind] += 1
        counts.offsets[place.offset] += 1
        sender.requests += 1
        sender.offsets[place.offset] += 1
        if is_split:
            counts.split += 1
        else:
            counts.windows[place.window] += 1
        counts.lucky.update(first.lucky)
        sender.found += first.is_found(self._window)
        name = first_before(head.data, place.offset)
        if not name:
            sender.relocated += 1
        elif name in sender.before or len(sender.before) < MOST_NAMES:
            sender.before[name] += 1

    def _sender(self, address: bytes) -> Sender:
        senders = self.counts.senders
        if address not in senders and len(senders) >= MOST_SENDERS:
            address = OTHERS
        return senders.setdefault(address, Sender())


def _certain(head: Head) -> bytes:
    """The bytes of a head; not a CR where a capture cut it: whether that ends a line is not known."""
    if head.whole is Whole.CUT and head.data.endswith(b"\r"):
        return head.data[:-1]
    return head.data
