# SPDX-License-Identifier: Apache-2.0
"""What `overhop sidecar verify` says: shares, smallest windows, senders that are not relocated."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from math import ceil

from overhop.sidecar.tally import OTHERS, Counts, Sender

WINDOWS = (64, 100, 128, 200, 256, 400, 512, 768, 1024, 1500, 2048, 4096, 8192)
LARGEST_WINDOW = 8192
PERCENTS = (50, 90, 99, 100)
MOST_BEFORE = 3
"""Names of headers in the way that are told of a sender."""
Names = Callable[[bytes], str]
"""Who has an address (4 or 16 bytes); empty where that is not known."""


@dataclass(frozen=True, slots=True)
class WindowShare:
    """How many contexts the tracer finds within a window."""

    window: int
    found: int
    share: float | None


@dataclass(frozen=True, slots=True)
class SenderShare:
    """One sender, by its address."""

    address: str
    name: str
    requests: int
    """With a context."""
    relocated: int
    found: int
    offset_min: int | None
    """None: by the agent's records, which have none of its contexts."""
    offset_median: int | None
    offset_max: int | None
    before: tuple[str, ...]
    """Headers that stand before the context, most often first."""

    @property
    def is_relocated(self) -> bool:
        """All that it sent has the context at the front."""
        return self.relocated == self.requests


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, and where the packets are from."""

    source: str
    """As people read it: `capture.pcap`, `interface veth1, by a packet socket`."""
    window: int
    threshold: float
    notes: tuple[str, ...] = ()
    """What makes the result a partial one."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result."""

    asked: Asked
    with_context: int
    found: int
    share: float | None
    """Found within the window asked for, of those with a context; None: there are none."""
    windows: tuple[WindowShare, ...]
    smallest: Mapping[int, int | None]
    """By percent of requests the window that finds so many; None: none up to 8192 does."""
    needed: tuple[tuple[int, int], ...]
    """The smallest window that finds a context, and of how many requests; ascending."""
    split: int
    """Contexts behind their request's first packet: no window finds them."""
    offsets: tuple[tuple[int, int], ...]
    """Offset of a context, and of how many requests; ascending."""
    senders: tuple[SenderShare, ...]
    """Those not relocated first, and of these the one with most such requests."""
    kinds: Mapping[str, int]
    requests: Mapping[str, int]
    packets: Mapping[str, int]

    @property
    def is_enough(self) -> bool:
        """Whether the share reaches the threshold; nothing seen is not enough."""
        return self.share is not None and self.share >= self.asked.threshold


def report_of(counts: Counts, asked: Asked, names: Names) -> Report:
    """The result of counts."""
    total = counts.with_context
    found = counts.found(asked.window)
    windows = sorted({*WINDOWS, asked.window})
    return Report(
        asked=asked,
        with_context=total,
        found=found,
        share=_share(found, total),
        windows=tuple(_at(counts, window) for window in windows),
        smallest={percent: smallest_window(counts, percent) for percent in PERCENTS},
        needed=tuple(sorted(counts.windows.items())),
        split=counts.split,
        offsets=tuple(sorted(counts.offsets.items())),
        senders=_senders(counts.senders, names),
        kinds=dict(counts.kinds.most_common()),
        requests={outcome.value: count for outcome, count in counts.requests.most_common()},
        packets={why.value: count for why, count in counts.packets.most_common()},
    )


def smallest_window(counts: Counts, percent: int) -> int | None:
    """The smallest window of 64 to 8192 bytes that finds so many, as does every larger one."""
    wanted = ceil(counts.with_context * percent / 100)
    reached = 0
    for window, count in sorted(counts.windows.items()):
        reached += count
        if reached >= wanted:
            return max(window, WINDOWS[0]) if window <= LARGEST_WINDOW else None
    return None


def _at(counts: Counts, window: int) -> WindowShare:
    found = counts.found(window)
    return WindowShare(window, found, _share(found, counts.with_context))


def _share(found: int, total: int) -> float | None:
    return found / total if total else None


def _senders(senders: Mapping[bytes, Sender], names: Names) -> tuple[SenderShare, ...]:
    found = [_sender(address, sender, names) for address, sender in senders.items()]
    return tuple(sorted(found, key=lambda each: (each.relocated - each.requests, -each.requests)))


def _sender(address: bytes, sender: Sender, names: Names) -> SenderShare:
    is_known = address != OTHERS
    return SenderShare(
        address=str(ip_address(address)) if is_known else "others",
        name=names(address) if is_known else "",
        requests=sender.requests,
        relocated=sender.relocated,
        found=sender.found,
        offset_min=min(sender.offsets, default=None),
        offset_median=median_of(sender.offsets),
        offset_max=max(sender.offsets, default=None),
        before=tuple(name for name, _ in sender.before.most_common(MOST_BEFORE)),
    )


def median_of(values: Counter[int]) -> int | None:
    """The lower median of values and how often each occurs; None: there are none."""
    half, reached = ceil(values.total() / 2), 0
    for value, count in sorted(values.items()):
        reached += count
        if reached >= half:
            return value
    return None
