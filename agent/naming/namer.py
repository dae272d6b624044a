# SPDX-License-Identifier: Apache-2.0
"""Names for records, a batch at a time (docs/store.md, "Tables"; docs/plan.md, "Names")."""

from collections.abc import Collection, Container, Sequence

import numpy as np
import numpy.typing as npt

from agent.hops.records import Records
from agent.hops.requests import RequestCounts
from agent.naming.flows import FlowTable, Words, ends_of, flow_keys, flow_of, hashes_of
from agent.naming.names import COLUMNS, Codes, Names, Row
from agent.naming.tables import AMBIGUOUS, AMBIGUOUS_SERVICE, UNKNOWN, UNKNOWN_SERVICE, NameTables
from agent.network.links import Link
from agent.plan.model import Plan
from agent.plan.names import Address
from bpf.record import ContextKind, Encap, Kind

MAX_NAMES = 10_000
"""Then they are numbered anew."""
CHUNK = 4096
"""Records named at once: what is needed for them stays in the cache."""
MESSAGES = ("request", "response")


class Namer:
    """Says what each record's hop is called.

    Flows that were seen before are looked up for a whole batch at once; only new ones take a slow way. One
    thread. Times are CLOCK_MONOTONIC in ns.
    """

    def __init__(self, *, asks: bool = False) -> None:
        """`asks`: names that the plan does not have are marks (agent.naming.marks)."""
        self.names = Names()
        """What the codes of the last call of `codes` mean; a new object when numbering begins anew."""
        self._tables = NameTables(asks=asks)
        self._flows = FlowTable(CHUNK, self._tally)
        self._keys = np.empty((CHUNK, 8), np.uint64)
        self._marks: list[tuple[str, ...]] = []
        """The counters in which a hop of each code counts."""
        self._is_marked = np.zeros(0, np.bool_)
        self._totals = dict.fromkeys((*COUNTED, "names_renumbered"), 0)
        self._requests = RequestCounts()

    def update(
        self, plan: Plan, links: Sequence[Link], now_mono_ns: int, own: Collection[Address] = ()
    ) -> None:
        """The plan (completed), the interfaces or this node's addresses `own` are now these."""
        changed = self._tables.update(plan, links, own, now_mono_ns)
        if changed.everything:
            self._flows.clear()
        elif changed.ifindexes or changed.addresses:
            self._flows.forget_ends(changed.ifindexes, changed.addresses)

    def codes(self, records: Records) -> Codes:
        """The number of each record's names in `names`; each counts as a hop."""
        return self._all_codes(records, counted=True)

    def rows(self, records: Records) -> list[Row]:
        """The names of each of a few records, by COLUMNS; they count in no counter."""
        return [self.names.rows[code] for code in self._all_codes(records, counted=False).tolist()]

    def requests_of(self, ifindex: int) -> int:
        """Hops that began or ended at the vport `ifindex`."""
        self._flows.settle()
        return self._requests.of(ifindex)

    def keep_requests(self, vports: Container[int]) -> None:
        """Forget the requests of every interface that is none of `vports`."""
        self._flows.settle()
        self._requests.keep(vports)

    def counters(self) -> dict[str, int]:
        """Hops with an end or a service that is unknown or ambiguous, and how often tables were emptied."""
        self._flows.settle()
        return self._totals | {"flows_rebuilt": self._flows.rebuilt}

    def _all_codes(self, records: Records, *, counted: bool) -> Codes:
        if len(self.names) >= MAX_NAMES:
            self._renumber()
        records = np.ascontiguousarray(records)
        found = np.empty(len(records), np.intp)
        for start in range(0, len(records), CHUNK):
            found[start : start + CHUNK] = self._codes(records[start : start + CHUNK], counted=counted)
        return found

    def _codes(self, records: Records, *, counted: bool) -> Codes:
        times = records["second_ns"]
        self._flows.keep_valid(times)
        keys = flow_keys(records, self._keys)
        hashes = hashes_of(keys)
        codes, unknown = self._flows.find(keys, hashes, counted=counted)
        left = unknown
        while len(left):
            left = self._name(left, keys, hashes, times, codes)
        if counted and len(unknown):
            self._tally(keys[unknown], codes[unknown], np.ones(len(unknown), np.uint64))
        return codes

    def _name(
        self, rows: Codes, keys: Words, hashes: Words, times: npt.NDArray[np.uint64], codes: Codes
    ) -> Codes:
        """Names the new flows of these rows. Returns rows whose names changed after their flow's first."""
        firsts, groups = _distinct(keys[rows], hashes[rows])
        named = [self._name_flow(keys[row], hashes[row], int(times[row])) for row in rows[firsts]]
        found = np.array(named, np.uint64).reshape(-1, 3)[groups]
        codes[rows] = found[:, 0].astype(np.intp)
        return rows[(times[rows] < found[:, 1]) | (times[rows] >= found[:, 2])]

    def _name_flow(self, key: Words, hash_: np.uint64, time_ns: int) -> tuple[int, int, int]:
        """Code of a new flow at that time, and the times between which it has it."""
        flow, kind_message, encap_context = flow_of(key)
        named = self._tables.named(flow, time_ns)
        code = self.names.code(
            (
                _label(_KINDS, flow.kind),
                _label(_MESSAGES, kind_message >> 4),
                named.source.namespace,
                named.source.pod,
                named.source.workload,
                named.destination.namespace,
                named.destination.pod,
                named.destination.workload,
                named.service,
                _label(_ENCAPS, encap_context & 0x0F),
                _label(_CONTEXTS, encap_context >> 4),
            )
        )
        self._flows.add(key, hash_, code, named.since_ns, named.until_ns)
        return code, named.since_ns, named.until_ns

    def _tally(self, keys: Words, codes: Codes, hops: Words) -> None:
        """Counts hops of these flows: by vport, and where their names are not what they should be."""
        kinds, first, second = ends_of(keys)
        self._requests.add(kinds, first, second, hops)
        if len(self._marks) < len(self.names):
            new = [counted_as(row) for row in self.names.rows[len(self._marks) :]]
            self._marks += new
            self._is_marked = np.concatenate([self._is_marked, np.array([bool(marks) for marks in new])])
        marked = np.flatnonzero(self._is_marked.take(codes))
        for code, count in zip(codes[marked].tolist(), hops[marked].tolist(), strict=True):
            for name in self._marks[code]:
                self._totals[name] += count

    def _renumber(self) -> None:
        self._totals["names_renumbered"] += 1
        self._flows.clear()
        self._marks, self._is_marked = [], self._is_marked[:0]
        self.names = Names()


_KINDS = {kind.value: kind.label for kind in Kind}
_ENCAPS = {encap.value: encap.label for encap in Encap}
_CONTEXTS = {context.value: context.label for context in ContextKind}
_MESSAGES = dict(enumerate(MESSAGES))
COUNTED = ("unknown_source", "unknown_destination", "unknown_service", "ambiguous")
_SRC_NS, _SRC, _DST_NS, _DST, _SERVICE = (
    COLUMNS.index(column) for column in ("src_ns", "src_workload", "dst_ns", "dst_workload", "service")
)


def _label(labels: dict[int, str], number: int) -> str:
    return labels.get(number, str(number))


def counted_as(row: Row) -> tuple[str, ...]:
    """Which counters a hop of these names counts in."""
    source, destination, service = (row[_SRC_NS], row[_SRC]), (row[_DST_NS], row[_DST]), row[_SERVICE]
    unknown, ambiguous = ("", UNKNOWN.workload), ("", AMBIGUOUS.workload)
    is_counted = {
        "unknown_source": source == unknown,
        "unknown_destination": destination == unknown,
        "unknown_service": service == UNKNOWN_SERVICE,
        "ambiguous": ambiguous in (source, destination) or service == AMBIGUOUS_SERVICE,
    }
    return tuple(name for name, counts in is_counted.items() if counts)


def _distinct(keys: Words, hashes: Words) -> tuple[Codes, Codes]:
    """A row of each distinct key, and for each row the number of its group."""
    _, firsts, groups = np.unique(hashes, return_index=True, return_inverse=True)
    if not np.array_equal(keys[firsts][groups], keys):
        _, firsts, groups = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return firsts, groups.reshape(-1)
