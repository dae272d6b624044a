# SPDX-License-Identifier: Apache-2.0
"""What the agent does with every record: name it, sum it up, sample it. Many at a time, for the costs."""

from collections.abc import Collection, Container, Sequence

from agent.clock import ClockOffset
from agent.hops.aggregate import MAX_SERIES, Aggregator
from agent.hops.records import Records, joined
from agent.hops.sampling import Sampler
from agent.hops.totals import HopTotals
from agent.naming.namer import Namer
from agent.network.links import Link
from agent.plan.model import Plan
from agent.plan.names import Address
from store.batch import Batch
from store.schema import SUMMARIES, Table

GATHERED = 8_192
"""Records that wait at most, 1 MB: a call of numpy costs as much for one as for a thousand."""


class Intake:
    """Records in, rows out. One thread; times are CLOCK_MONOTONIC in ns.

    `update` when plan, interfaces or addresses change; `add` what was read from the ring; `samples` once a
    second; `summaries` for each table of store.schema.SUMMARIES, finest first, when its interval ends.
    """

    def __init__(
        self, max_series: int = MAX_SERIES, *, totals: HopTotals | None = None, has_rows: bool = True
    ) -> None:
        """`totals` counts every record too; `has_rows` False: nobody will ask for rows, none are made."""
        self.namer = Namer()
        self._totals = totals
        self._has_rows = has_rows
        self._aggregator = Aggregator(self.namer, max_series)
        self._sampler = Sampler(self._aggregator.places)
        self._waiting: list[Records] = []
        self._count = 0

    def update(
        self, plan: Plan, links: Sequence[Link], now_mono_ns: int, own: Collection[Address] = ()
    ) -> None:
        """The plan (completed), the interfaces or this node's addresses `own` are now these."""
        self.namer.update(plan, links, now_mono_ns, own)

    def add(self, records: Records) -> None:
        """Takes over records (they must not change any more); those side by side are not copied."""
        if not len(records):
            return
        self._waiting.append(records)
        self._count += len(records)
        if self._count >= GATHERED:
            self.work()

    def samples(self, clock: ClockOffset, boot_id: str, now_mono_ns: int) -> Batch:
        """Rows of HOP_SAMPLE since the last call."""
        self.work()
        return self._sampler.take(clock, boot_id, now_mono_ns)

    def summaries(self, table: Table) -> Batch:
        """Rows of the interval of `table` that ends now."""
        self.work()
        if table is SUMMARIES[0]:
            self._sampler.new_interval()
        return self._aggregator.take(table)

    def requests_of(self, ifindex: int) -> int:
        """Requests through the vport `ifindex` so far."""
        self.work()
        return self.namer.requests_of(ifindex)

    def keep_vports(self, vports: Container[int]) -> None:
        """Forget the requests of every interface that is none of `vports`."""
        self.work()
        self.namer.keep_requests(vports)

    @property
    def sampling_shift(self) -> int:
        """n, where one in 2^n traces is kept."""
        return self._sampler.shift

    def counters(self) -> dict[str, int]:
        """Totals since the start, by name."""
        return self.namer.counters() | self._aggregator.counters() | self._sampler.counters()

    def work(self) -> None:
        """Deal with the records that wait for more."""
        if not self._count:
            return
        records = joined(self._waiting)
        self._waiting, self._count = [], 0
        codes = self.namer.codes(records)
        if self._totals is not None:
            self._totals.add(records, codes, self.namer.names)
        if not self._has_rows:
            return
        places = self._aggregator.add(records, codes)
        self._sampler.add(records, codes, places, self.namer.names)
