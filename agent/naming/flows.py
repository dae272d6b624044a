# SPDX-License-Identifier: Apache-2.0
"""Flows that have their names already, found again for all records of a batch at once.

A flow is what decides a hop's names: kind, context, encapsulation, interfaces, addresses, NAT, and the port
before DNAT; not the ports of a connection. It is eight words, one cache line.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from agent.hops.records import Records, words_of
from agent.naming.history import FOREVER_NS
from agent.naming.tables import Flow
from bpf.record import RECORD, Quality

Words = npt.NDArray[np.uint64]
MAX_FLOWS = 20_000
"""Then the table is emptied: 1.3 MB of flows, 0.6 MB besides."""

_DNAT, _SNAT = Quality.DNAT.value, Quality.SNAT.value  # and-ing flags takes a microsecond
_RECORD_ADDRESSES = np.dtype(
    {"names": ["addresses"], "formats": ["V48"], "offsets": [32], "itemsize": RECORD.itemsize}
)
_KEY_ADDRESSES = np.dtype({"names": ["addresses"], "formats": ["V48"], "offsets": [0], "itemsize": 64})
"""Three addresses copied as one: half the time of six words."""
_IFINDEXES = 12  # of the words of a record
_MARKS = 31  # of its halves: kind_message, encap_context, trace_flags, quality
_DPORT_BEFORE = 59  # of its quarters
_DNAT_MARK = np.uint32(_DNAT << 24)
_MARKS_MASK = np.uint32((_DNAT | _SNAT) << 24 | 0xFFFF)
_FACTORS = np.array(
    [
        0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F,
        0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3, 0x1D8E4E27C47D124F,
    ],
    np.uint64,
)  # fmt: skip
_HASH_SHIFT = np.uint64(64 - 17)
_PLACES = 1 << 17
_PROBES = 15
"""How far behind its first place a flow may be; with the table a sixth full none is."""
_LOWER_HALF = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
"""Of the array's own type: with any other one ufunc.at is 30 times slower."""
_NO_FLOW = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


def flow_keys(records: Records, out: Words) -> Words:
    """The flow of each record, as a row of eight words; the first rows of `out`."""
    words, keys = words_of(records), out[: len(records)]
    halves, key_halves = words.view(np.uint32), keys.view(np.uint32)
    keys.view(_KEY_ADDRESSES)["addresses"] = words.view(_RECORD_ADDRESSES)["addresses"]
    keys[:, 6] = words[:, _IFINDEXES]
    marks = np.ascontiguousarray(halves[:, _MARKS])
    np.bitwise_and(marks, _MARKS_MASK, out=key_halves[:, 14])
    np.multiply(words.view(np.uint16)[:, _DPORT_BEFORE], (marks & _DNAT_MARK) != 0, out=key_halves[:, 15])
    return keys


def hashes_of(keys: Words) -> Words:
    """64 bits of each flow; the upper ones say where it is looked for first."""
    mixed: Words = np.einsum("ij,j", keys, _FACTORS)
    return mixed


def ends_of(keys: Words) -> tuple[Words, Words, Words]:
    """Kind, first and second ifindex of each row of eight words."""
    ifindexes = keys[:, 6]
    return keys[:, 7] & np.uint64(0x0F), ifindexes & _LOWER_HALF, ifindexes >> np.uint64(32)


def flow_of(key: Words) -> tuple[Flow, int, int]:
    """One row of eight words as a flow, with kind_message and encap_context of the record."""
    data = key.astype("<u8").tobytes()
    kind_message, encap_context, quality = data[56], data[57], data[59]
    flow = Flow(
        kind=kind_message & 0x0F,
        first_ifindex=int.from_bytes(data[48:52], "little"),
        second_ifindex=int.from_bytes(data[52:56], "little"),
        src=data[0:16],
        dst=data[16:32],
        dst_before=data[32:48],
        dport_before=int.from_bytes(data[60:62], "little"),
        has_dnat=bool(quality & _DNAT),
        has_snat=bool(quality & _SNAT),
    )
    return flow, kind_message, encap_context


Tally = Callable[[Words, npt.NDArray[np.intp], Words], None]
"""Takes flows, the numbers of their names, and how many hops they had."""


class FlowTable:
    """Numbers of names by flow: a hash table with open addressing. Compares whole flows, never hashes only.

    Row 0 is no flow. A forgotten flow keeps its row, with words that no record has. Hops are counted by flow;
    `tally` gets the counts before a flow is forgotten, and whenever settle() is called.
    """

    def __init__(self, chunk: int, tally: Tally) -> None:
        self._tally = tally
        self.rebuilt = 0
        """How often it was emptied because it was full."""
        self._found = np.empty((chunk, 8), np.uint64)
        self._unequal = np.empty((chunk, 8), np.bool_)
        self._rows = np.zeros(_PLACES, np.uint16)
        self._keys = np.full((MAX_FLOWS + 1, 8), _NO_FLOW)
        self._codes = np.zeros(MAX_FLOWS + 1, np.intp)
        self._hops = np.zeros(MAX_FLOWS + 1, np.uint64)
        self._used = 1
        self._since_ns = np.zeros(MAX_FLOWS + 1, np.uint64)
        self._until_ns = np.zeros(MAX_FLOWS + 1, np.uint64)
        self.clear()

    def __len__(self) -> int:
        return self._used - 1

    def clear(self) -> None:
        """Forget every flow."""
        self.settle()
        self._rows[:] = 0
        self._used = 1
        self._latest_since_ns, self._first_until_ns = 0, FOREVER_NS

    def find(
        self, keys: Words, hashes: Words, *, counted: bool = True
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """The code of each flow, and which of them are not known (their code means nothing).

        Each row that is found is a hop of its flow, if `counted`.
        """
        places = (hashes >> _HASH_SHIFT).view(np.intp)
        rows = self._rows.take(places, mode="clip").astype(np.intp)
        left = np.flatnonzero(self._differs(rows, keys))
        unknown = self._find_displaced(left, rows, keys[left], places[left]) if len(left) else left
        if counted:
            rows[unknown] = 0
            np.add.at(self._hops, rows, _ONE)
        return self._codes.take(rows, mode="clip"), unknown

    def settle(self) -> None:
        """Give what was counted to `tally`."""
        self._hops[0] = 0
        rows = np.flatnonzero(self._hops[: self._used])
        if len(rows):
            self._tally(self._keys[rows], self._codes[rows], self._hops[rows])
            self._hops[rows] = 0

    def _find_displaced(
        self,
        left: npt.NDArray[np.intp],
        rows: npt.NDArray[np.intp],
        keys: Words,
        places: npt.NDArray[np.intp],
    ) -> npt.NDArray[np.intp]:
        """Looks behind the first place. Sets `rows` of what is found, returns what is not."""
        for _ in range(_PROBES):
            places = (places + 1) & (_PLACES - 1)
            found = self._rows.take(places).astype(np.intp)
            rows[left] = found
            wrong = np.flatnonzero(self._differs(found, keys))
            left, keys, places = left[wrong], keys[wrong], places[wrong]
            if not found[wrong].any():
                break
        return left

    def add(self, key: Words, hash_: np.uint64, code: int, since_ns: int, until_ns: int) -> None:
        """Remember the code of a flow that is not known, valid for since_ns <= time < until_ns."""
        place = self._free_place(hash_) if self._used <= MAX_FLOWS else None
        if place is None:
            self.clear()
            self.rebuilt += 1
            place = int(hash_ >> _HASH_SHIFT)
        row = self._used
        self._used += 1
        self._rows[place] = row
        self._keys[row], self._codes[row] = key, code
        self._since_ns[row], self._until_ns[row] = since_ns, until_ns
        self._latest_since_ns = max(self._latest_since_ns, since_ns)
        self._first_until_ns = min(self._first_until_ns, until_ns)

    def keep_valid(self, times_ns: Words) -> None:
        """Forget flows whose names do not hold at all of these times."""
        if not self._latest_since_ns and self._first_until_ns == FOREVER_NS:
            return
        first_ns, last_ns = int(times_ns.min()), int(times_ns.max())
        if self._latest_since_ns <= first_ns and last_ns < self._first_until_ns:
            return
        since_ns, until_ns = self._since_ns[1 : self._used], self._until_ns[1 : self._used]
        self._forget((since_ns > np.uint64(first_ns)) | (until_ns <= np.uint64(last_ns)))

    def forget_ends(self, ifindexes: frozenset[int], addresses: frozenset[bytes]) -> None:
        """Forget flows of these interfaces and addresses."""
        keys = self._keys[1 : self._used]
        is_gone = np.zeros(len(keys), bool)
        if ifindexes:
            gone = np.array(sorted(ifindexes), np.uint64)
            is_gone |= np.isin(keys[:, 6] & _LOWER_HALF, gone) | np.isin(keys[:, 6] >> np.uint64(32), gone)
        if addresses:
            lower_halves = np.frombuffer(b"".join(address[8:] for address in addresses), np.uint64)
            for column in (1, 3, 5):
                is_gone |= np.isin(keys[:, column], lower_halves)
        self._forget(is_gone)

    def _free_place(self, hash_: np.uint64) -> int | None:
        first = int(hash_ >> _HASH_SHIFT)
        places = (place & (_PLACES - 1) for place in range(first, first + _PROBES + 1))
        return next((place for place in places if not self._rows[place]), None)

    def _forget(self, is_gone: npt.NDArray[np.bool_]) -> None:
        self.settle()
        used = slice(1, self._used)
        self._keys[used][is_gone] = _NO_FLOW
        self._since_ns[used][is_gone] = 0
        self._until_ns[used][is_gone] = FOREVER_NS
        self._latest_since_ns = int(self._since_ns[used].max(initial=0))
        self._first_until_ns = int(self._until_ns[used].min(initial=FOREVER_NS))

    def _differs(self, rows: npt.NDArray[np.intp], keys: Words) -> npt.NDArray[np.bool_]:
        known = self._keys.take(rows, axis=0, mode="clip", out=self._found[: len(rows)])
        unequal = np.not_equal(known, keys, out=self._unequal[: len(rows)])
        differs: npt.NDArray[np.bool_] = unequal.view(np.uint64).reshape(len(keys)) != 0
        return differs
