# SPDX-License-Identifier: Apache-2.0
"""From the parts of an agent to what /metrics says of them."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.datapath import Datapath
from agent.hops.intake import Intake
from agent.hops.totals import HopTotals
from agent.storing.output import Output
from bpf.counters import NAMES

if TYPE_CHECKING:
    from agent.control.control import Control
    from agent.metrics.server import MetricsServer
    from agent.metrics.snapshot import MetricsSnapshot

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MetricsSource:
    """Whom a snapshot is of."""

    version: str
    source: str
    """Digest of the C file."""
    datapath: Datapath
    intake: Intake
    totals: HopTotals
    output: Output | None
    counters: Callable[[], Mapping[str, int]]
    """The agent's, `waiting` with them."""
    control: "Control | None" = None

    def snapshot(self) -> "MetricsSnapshot":
        """Of this moment; all records that were read are in it."""
        from agent.metrics.snapshot import ControlFacts, MetricsSnapshot

        control = None if self.control is None else ControlFacts(**self.control.facts())

        self.intake.work()
        counters = self.counters()
        return MetricsSnapshot(
            version=self.version,
            spec=self.datapath.spec.digest(),
            source=self.source,
            hops=self.totals.facts(),
            datapath={name: counters[name] for name in NAMES},
            waiting=counters["waiting"],
            ring_lag=self.datapath.lag,
            output=None if self.output is None else self.output.facts(),
            sampling_shift=self.intake.sampling_shift,
            time_ns=time.time_ns(),
            control=control,
        )


def open_metrics(where: tuple[str, int] | None, source: MetricsSource) -> "MetricsServer | None":
    """Listens at that IP address and port; None if there is none, or if nobody can: tracing goes on."""
    if where is None:
        return None
    from agent.metrics.server import MetricsError, MetricsServer  # 3 MB of memory

    try:
        return MetricsServer(*where, source.snapshot)
    except MetricsError as error:
        _log.warning("no metrics", extra={"reason": str(error)})
        return None
