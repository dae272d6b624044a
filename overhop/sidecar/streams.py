# SPDX-License-Identifier: Apache-2.0
"""Request heads out of TCP segments: put together by sequence number, without repetitions, bounded in memory.

A request begins where the tracer sees one begin: at the start of a packet's payload. What begins behind
another request in the same packet is told apart: the tracer does not see it.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from overhop.sidecar.head import Head, Whole
from overhop.sidecar.http1 import LONGEST_METHOD, METHODS, begins_request, body_bytes, looks_like
from overhop.sidecar.packets import Segment, Why

MOST_HEAD_BYTES = 1 << 16
MOST_WAITING = 64
"""Segments of one stream that wait for an earlier one; then that is taken for lost."""
MOST_STREAMS = 1 << 14
MOST_HELD_BYTES = 1 << 25
"""Of streams, and of heads that are not whole: beyond that the longest ago is forgotten."""
_FARTHEST_BACK = 1 << 24
"""Farther behind what was seen there is no repetition but a new connection of the same ports."""
_END = b"\r\n\r\n"
_Key = tuple[bytes, bytes, int, int]
"""Addresses and ports."""


@dataclass(slots=True)
class _Growing:
    """A head that is not whole yet."""

    begin: Segment
    """Where it begins, without its bytes."""
    is_seen: bool
    data: bytearray = field(default_factory=bytearray)

    @classmethod
    def at(cls, segment: Segment, *, is_seen: bool) -> "_Growing":
        """Of which nothing is there but the segment where it begins."""
        return cls(segment._replace(data=b""), is_seen)


@dataclass(slots=True)
class _Stream:
    """One direction of a connection."""

    next: int
    """Sequence number of what comes next; with a body of known length: of what is behind that."""
    body: int = 0
    """Sequence number where the body of the last request begins, or its head goes on."""
    head: _Growing | None = None
    gap: tuple[int, int] = (0, 0)
    """Sequence numbers from and to which nothing came: before the first request, or between two."""
    waiting: dict[int, Segment] = field(default_factory=dict)
    held_bytes: int = 0


class Streams:
    """All directions of all connections; calls `take` with each head as it ends."""

    def __init__(self, take: Callable[[Head], None]) -> None:
        self._take = take
        self._streams: OrderedDict[_Key, _Stream] = OrderedDict()
        self.held_bytes = 0
        """Of heads that are not whole, and of segments that wait."""

    def add(self, segment: Segment) -> Why:
        """What the packet of a segment is."""
        key = segment[:4]
        stream = self._streams.get(key)
        if segment.is_syn:
            if stream:
                self._forget(key, stream)
                stream = None
            segment = segment._replace(seq=_sum(segment.seq, 1))
        if not segment.length:
            return Why.EMPTY
        if stream is None:
            return self._first(key, segment)
        self._streams.move_to_end(key)
        why = self._next(key, stream, segment)
        self._make_room(0)
        return why

    def end(self) -> None:
        """No more segments come: what is not whole stays so."""
        while self._streams:
            self._forget(*next(iter(self._streams.items())))

    def _first(self, key: _Key, segment: Segment) -> Why:
        if not segment.data.startswith(METHODS):
            return looks_like(segment)
        self._make_room(1)
        stream = self._streams[key] = _Stream(segment.seq)
        stream.gap = _sum(segment.seq, -_FARTHEST_BACK), segment.seq
        self._begin(stream, segment, is_seen=True)
        return Why.REQUEST

    def _make_room(self, more: int) -> None:
        """Forget what is the longest ago; segments that wait there are not looked at again."""
        while len(self._streams) + more > MOST_STREAMS or self.held_bytes > MOST_HELD_BYTES:
            key, stream = next(iter(self._streams.items()))
            stream.waiting.clear()
            self._forget(key, stream)

    def _next(self, key: _Key, stream: _Stream, segment: Segment) -> Why:
        ahead = _difference(segment.seq, stream.next)
        if _is_anew(stream, segment, ahead):
            self._forget(key, stream)
            return self._first(key, segment)
        is_trimmed = ahead < 0
        if is_trimmed:
            if -ahead >= segment.length:
                return self._past(stream, segment)
            segment, ahead = _from(segment, -ahead), 0
        if stream.head is None:
            if ahead:
                stream.gap = stream.next, segment.seq
            return self._between(stream, segment, is_trimmed=is_trimmed)
        if ahead:
            self._wait(key, stream, segment)
        else:
            self._feed(stream, segment)
            self._drain(key, stream)
        return Why.REQUEST

    def _past(self, stream: _Stream, segment: Segment) -> Why:
        """Behind of what is known: seen before, of a body, or too late for its place."""
        begin, end = stream.gap
        before = _difference(segment.seq, begin)
        behind = _difference(end, _sum(segment.seq, segment.length))
        if before >= 0 and behind >= 0:
            # The larger part stays missing; that there are two is rare, and then one request is not counted.
            stream.gap = (begin, segment.seq) if before > behind else (_sum(end, -behind), end)
            return self._late(segment)
        return Why.REPEATED if _difference(segment.seq, stream.body) < 0 else Why.BODY

    def _late(self, segment: Segment) -> Why:
        """A packet that was overtaken by a later request: a request of its own, if it is one."""
        if not segment.data.startswith(METHODS):
            return looks_like(segment)
        alone = _Stream(segment.seq)
        self._begin(alone, segment, is_seen=True)
        if alone.head is not None:
            self._finish(alone, alone.head, Whole.INCOMPLETE)
        return Why.REQUEST

    def _between(self, stream: _Stream, segment: Segment, *, is_trimmed: bool) -> Why:
        """Behind a request and its body, if the length of that is known."""
        if segment.data.startswith(METHODS) or (
            is_trimmed and segment.data and begins_request(segment.data)  # it may be cut within its method
        ):
            self._begin(stream, segment, is_seen=not is_trimmed)
            return Why.REQUEST
        stream.next = _sum(segment.seq, segment.length)
        return looks_like(segment)

    def _wait(self, key: _Key, stream: _Stream, segment: Segment) -> None:
        """Until an earlier one comes."""
        if segment.seq not in stream.waiting:
            stream.waiting[segment.seq] = segment
            self._reckon(stream)
        if len(stream.waiting) > MOST_WAITING:
            self._forget(key, stream)

    def _drain(self, key: _Key, stream: _Stream) -> None:
        """Segments that waited for the one that came."""
        if not stream.waiting:
            return
        waiting, stream.waiting = stream.waiting, {}
        for segment in _in_order(waiting, stream.next):
            if self._streams.get(key) is stream:
                self._next(key, stream, segment)
            else:  # it was forgotten: the rest begins anew
                self.add(segment)

    def _forget(self, key: _Key, stream: _Stream) -> None:
        """The head is what there is of it; segments that waited are looked at as if they came first."""
        del self._streams[key]
        if stream.head is not None:
            self._finish(stream, stream.head, Whole.INCOMPLETE)
        self.held_bytes -= stream.held_bytes
        for segment in _in_order(stream.waiting, stream.next):
            self.add(segment)

    def _begin(self, stream: _Stream, segment: Segment, *, is_seen: bool) -> None:
        stream.head = _Growing.at(segment, is_seen=is_seen)
        self._feed(stream, segment)

    def _feed(self, stream: _Stream, segment: Segment) -> None:
        """Add a segment to the head; further requests may begin in the same one."""
        rest: Segment | None = segment
        while rest is not None and stream.head is not None:
            rest = self._append(stream, stream.head, rest)
            if rest is not None:
                stream.head = _Growing.at(rest, is_seen=False)

    def _append(self, stream: _Stream, head: _Growing, segment: Segment) -> Segment | None:
        """What is behind the head, if it has an end and a request begins there."""
        old = len(head.data)
        head.data += segment.data
        stream.next = stream.body = _sum(segment.seq, segment.length)
        end = head.data.find(_END, max(0, old - 3)) + 4
        if end >= 4:
            del head.data[end:]
            self._finish(stream, head, Whole.WHOLE)
            return _behind(stream, segment, end - old, body_bytes(head.data))
        if len(segment.data) < segment.length:
            self._finish(stream, head, Whole.CUT)
        elif len(head.data) > MOST_HEAD_BYTES:
            self._finish(stream, head, Whole.INCOMPLETE)
        else:
            self._reckon(stream)
        return None

    def _finish(self, stream: _Stream, head: _Growing, whole: Whole) -> None:
        stream.head = None
        begin = head.begin
        self._reckon(stream)
        data = bytes(head.data)
        self._take(Head(begin.src, begin.dst, begin.seq, begin.ack, data, whole, begin.length, head.is_seen))

    def _reckon(self, stream: _Stream) -> None:
        """What is kept of a stream has changed."""
        held_bytes = sum(len(each.data) for each in stream.waiting.values())
        if stream.head is not None:
            held_bytes += len(stream.head.data)
        self.held_bytes += held_bytes - stream.held_bytes
        stream.held_bytes = held_bytes


def _is_anew(stream: _Stream, segment: Segment, ahead: int) -> bool:
    """Whether a segment has nothing to do with what came before in its stream."""
    if ahead < -_FARTHEST_BACK and _difference(segment.seq, stream.body) < -_FARTHEST_BACK:
        return True
    # An answer came meanwhile: the head before had ended, though not as it should.
    is_answered = stream.head is not None and segment.ack != stream.head.begin.ack
    return ahead >= 0 and is_answered and segment.data.startswith(METHODS)


def _behind(stream: _Stream, segment: Segment, used: int, body: int | None) -> Segment | None:
    """What begins a request behind a head that ends `used` bytes into a segment, and its body."""
    stream.body = _sum(segment.seq, used)
    rest = used + (body or 0)
    if rest >= segment.length:
        stream.next = _sum(segment.seq, rest)
        return None
    start = segment.data[rest : rest + LONGEST_METHOD]
    if body is not None and start and begins_request(start):
        return _from(segment, rest)
    return None


def _from(segment: Segment, skipped: int) -> Segment:
    """The segment without its first bytes."""
    return segment._replace(
        seq=_sum(segment.seq, skipped), data=segment.data[skipped:], length=segment.length - skipped
    )


def _in_order(waiting: dict[int, Segment], next_: int) -> list[Segment]:
    return sorted(waiting.values(), key=lambda segment: _difference(segment.seq, next_))


def _sum(seq: int, count: int) -> int:
    return (seq + count) & 0xFFFFFFFF


def _difference(seq: int, other: int) -> int:
    """How far `seq` is ahead of `other`, in serial arithmetic; negative: behind."""
    return ((seq - other + 0x80000000) & 0xFFFFFFFF) - 0x80000000
