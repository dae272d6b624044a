# SPDX-License-Identifier: Apache-2.0
"""Model of docs/datapath.md §3: stamps waiting in sets of two ways, one packet at a time.

Time passes only by `age`; a caller keeps every run much shorter than the two seconds of expiry.
"""

from dataclasses import dataclass
from typing import NamedTuple

from bpf.record import EXPIRY_NS, Point

GOLDEN = 0x9E3779B97F4A7C15
MASK64 = (1 << 64) - 1


class Stamp(NamedTuple):
    """What the first point leaves for the second."""

    point: Point
    ifindex: int
    dst: bytes
    """16 bytes, IPv4 mapped."""
    sport: int
    dport: int
    src_hash: int
    encap: int
    vni: int
    is_retransmission: bool
    is_skipped: bool
    sample_shift: int
    require_sampled: bool


@dataclass(slots=True)
class Way:
    """One place of a set; `word` 0 is empty."""

    word: int = 0
    order: int = 0
    age_ns: int = 0
    is_taken: bool = False
    stamp: Stamp | None = None

    @property
    def is_expired(self) -> bool:
        """Waiting for too long to be paired."""
        return bool(self.word) and not self.is_taken and self.age_ns > EXPIRY_NS


def place(seq: int, ack: int, sets: int) -> tuple[int, int]:
    """Set and word of a key."""
    mixed = ((seq << 32 | ack) * GOLDEN) & MASK64
    word = mixed & (MASK64 >> 1)
    return mixed >> (64 - (sets.bit_length() - 1)), {0: 2, 1: 3}.get(word, word)


def hash_source(src: bytes, is_ipv6: bool) -> int:
    """16 bits that stand for the source address."""
    number = 0
    for at in (0, 4, 8, 12) if is_ipv6 else (12,):
        number ^= int.from_bytes(src[at : at + 4], "big")
    return (number * 0x9E3779B1 & 0xFFFFFFFF) >> 16


class Slots:
    """The table. `locked` are numbers of ways that somebody else holds meanwhile."""

    def __init__(self, sets: int) -> None:
        self._sets = sets
        self._ways: dict[int, tuple[Way, Way]] = {}
        self._order = 0

    def age(self, ns: int) -> None:
        """Make every stamp older."""
        for pair in self._ways.values():
            for way in pair:
                way.age_ns += ns

    def put(self, seq: int, ack: int, stamp: Stamp, locked: tuple[int, ...] = ()) -> str | None:
        """Store a first stamp; the counter besides `first`, if any."""
        pair, word = self._find(seq, ack, locked)
        mine = next((way for way in pair if way.word == word), None)
        counter = None
        if mine and mine.stamp:
            is_same = (mine.stamp.point, mine.stamp.ifindex) == (stamp.point, stamp.ifindex)
            stamp = stamp._replace(is_retransmission=is_same)
            if not mine.is_taken:
                counter = "refreshed" if is_same else "overwritten"
        elif pair:
            mine = min(pair, key=_victim_rank)
            if mine.word and not mine.is_taken:
                counter = "expired" if mine.is_expired else "overwritten"
        else:
            return "slot_busy"
        self._order += 1
        mine.word, mine.order, mine.age_ns, mine.is_taken, mine.stamp = word, self._order, 0, False, stamp
        return counter

    def take(self, seq: int, ack: int, locked: tuple[int, ...] = ()) -> tuple[Stamp | None, bool]:
        """The waiting stamp of the key, which becomes taken; and whether it was there, but expired."""
        for way in self._find(seq, ack, locked)[0]:
            if way.word == place(seq, ack, self._sets)[1] and not way.is_taken:
                is_expired, way.is_taken = way.is_expired, True
                return (None if is_expired else way.stamp), is_expired
        return None, False

    def is_taken(self, seq: int, ack: int, locked: tuple[int, ...] = ()) -> bool:
        pair, word = self._find(seq, ack, locked)
        return any(way.word == word and way.is_taken for way in pair)

    def keys(self) -> dict[int, int]:
        """The key field of every way that is not empty, by number of the way."""
        return {
            2 * index + number: way.word | way.is_taken << 63
            for index, pair in self._ways.items()
            for number, way in enumerate(pair)
            if way.word
        }

    def _find(self, seq: int, ack: int, locked: tuple[int, ...]) -> tuple[tuple[Way, ...], int]:
        """The ways of the key's set that are not locked, and the key's word."""
        index, word = place(seq, ack, self._sets)
        pair = self._ways.get(index)
        if pair is None:
            pair = self._ways[index] = (Way(), Way())
        if not locked:
            return pair, word
        return tuple(way for number, way in enumerate(pair) if 2 * index + number not in locked), word


def _victim_rank(way: Way) -> tuple[int, int]:
    """Empty, taken, expired, then the oldest; min() keeps the first way of a class."""
    if not way.word:
        return 0, 0
    if way.is_taken:
        return 1, 0
    return (2, 0) if way.is_expired else (3, way.order)
