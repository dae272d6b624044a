# SPDX-License-Identifier: Apache-2.0
"""What the agent does with every record: name it, sum it up, sample it. Many at a time, for the costs."""

import math
import time
from collections.abc import Collection, Container, Sequence

import numpy as np

from agent.clock import ClockOffset
from agent.hops.aggregate import MAX_SERIES, Aggregator
from agent.hops.records import Records, joined
from agent.hops.sampling import Sampler
from agent.hops.totals import HopTotals
from agent.hops.waiting import Asks, Waiting, named_row
from agent.naming.marks import shown
from agent.naming.namer import Namer
from agent.naming.names import Row
from agent.network.links import Link
from agent.plan.model import Plan
from agent.plan.names import Address
from store.batch import Batch
from store.schema import SUMMARIES, Table

WAIT_S = 16.0
"""How long rows wait for names: five seconds before anybody is asked, an interval for the answer."""
LAST_WAIT_S = 2.0
GATHERED = 8_192
"""Records that wait at most, 1 MB: a call of numpy costs as much for one as for a thousand."""


class Intake:
    """Records in, rows out. One thread; times are CLOCK_MONOTONIC in ns.

    `update` when plan, interfaces or addresses change; `add` what was read from the ring; `samples` once a
    second; `summaries` for each table of store.schema.SUMMARIES, finest first, when its interval ends.
    """

    def __init__(
        self,
        max_series: int = MAX_SERIES,
        *,
        totals: HopTotals | None = None,
        has_rows: bool = True,
        asks: Asks | None = None,
    ) -> None:
        """`totals` counts every record too; `has_rows` False: nobody will ask for rows, none are made.

        `asks`: whom to ask for names that the plan does not have; rows wait for the answer.
        """
        self.namer = Namer(asks=asks is not None)
        self._totals = totals
        self._has_rows = has_rows
        self._aggregator = Aggregator(self.namer, max_series, asks=asks is not None)
        self._asks = asks
        self._late = None if asks is None else Waiting(asks, self._aggregator, WAIT_S)
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

    def samples(self, clock: ClockOffset, boot_id: str, now_mono_ns: int) -> list[Batch]:
        """Rows of HOP_SAMPLE since the last call, and all rows whose names became known meanwhile."""
        self.work()
        batch = self._sampler.take(clock, boot_id, now_mono_ns)
        if self._late is None:
            return [batch]
        kept = self._late.keep(batch)
        return [*([] if kept is None else [kept]), *self._late.ready(now_mono_ns / 1e9)]

    def summaries(self, table: Table, clock: ClockOffset, now_mono_ns: int) -> list[Batch]:
        """Rows of the interval of `table` that ends now; the finest ones later where names are asked for."""
        self.work()
        if table is SUMMARIES[0]:
            self._sampler.new_interval()
            if self._late is not None:
                real_ns = int(clock.to_real(np.array([now_mono_ns], np.uint64))[0])
                self._late.end_interval(now_mono_ns / 1e9, real_ns)
                return list(self._late.ready(now_mono_ns / 1e9))
        return [self._aggregator.take(table)]

    def last(self, wait_s: float = LAST_WAIT_S) -> list[Batch]:
        """All rows that still wait, after at most that time; then what has no name is unknown."""
        if self._late is None or self._asks is None:
            return []
        self._asks.hurry()
        until_s = time.monotonic() + wait_s
        found = list(self._late.ready(0.0))
        while self._late.waits and time.monotonic() < until_s:
            time.sleep(0.02)
            found += self._late.ready(0.0)
        return [*found, *self._late.ready(math.inf)]

    def rows(self, records: Records) -> list[Row]:
        """The names of each of a few records, for somebody who looks on; they count in no counter."""
        rows = self.namer.rows(records)
        if self._asks is None:
            return rows
        return [named_row(row, self._asks.latest, shown) for row in rows]

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
        named = self.namer.counters()
        if self._late is not None:
            named = {name: count + self._late.counts.get(name, 0) for name, count in named.items()}
            named["named_late"] = self._late.counts["named_late"]
        return named | self._aggregator.counters() | self._sampler.counters()

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
