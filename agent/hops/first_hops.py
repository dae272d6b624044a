# SPDX-License-Identifier: Apache-2.0
"""The first hops of an agent, for the summary at its end (`overhop agent --json`)."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from agent.hops.records import Records
from agent.hops.summary import Distribution, by_kind
from bpf.record import RECORD

_FIELDS: Final = ("kind_message", "encap_context", "latency_ns", "quality", "segments")
"""What by_kind looks at: 9 of the 128 bytes of a record."""


class FirstHops:
    """Remembers what by_kind needs of the first `limit` records."""

    def __init__(self, limit: int = 50_000) -> None:
        self._records: Records = np.empty(limit, [(name, RECORD[name]) for name in _FIELDS])
        self._count = 0

    def take(self, batch: Records) -> None:
        """Remember a batch as far as there is room."""
        taken = batch[: len(self._records) - self._count]
        if not len(taken):
            return
        to = self._records[self._count : self._count + len(taken)]
        for name in _FIELDS:
            to[name] = taken[name]
        self._count += len(taken)

    def by_kind(self) -> Mapping[str, Distribution]:
        """Latency by kind of what was remembered."""
        return by_kind(self._records[: self._count])
