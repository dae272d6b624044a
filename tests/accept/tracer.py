# SPDX-License-Identifier: Apache-2.0
"""An agent on one node of a lab whose counts are exact: what it saw between a mark and the settling."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.reading.ring import Records
from overhop.lab import LabError, Node
from tests.accept.agents import AgentProcess, imbalances
from tests.accept.verdict import until

SETTLE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one node has seen of one load, once traffic has stopped."""

    records: Records
    counters: dict[str, int]
    """All of bpf.counters.NAMES, `waiting` and `swapped`: the change, so waiting may be negative."""
    settled: bool
    """The identities hold exactly, and every record of the kernel is in `records`."""


class Tracer:
    """An agent for all pods that the node has by now; `directory` takes its files."""

    def __init__(self, node: Node, directory: Path, attach: str = "auto") -> None:
        self.node = node
        self._agent = AgentProcess(node, directory, node.plan(), ("--attach", attach))
        self._counted: dict[str, int] = {}

    def start(self) -> None:
        """Start the agent; it is not yet attached."""
        self._agent.launch()

    def __enter__(self) -> Self:
        """Wait until the agent is attached everywhere."""
        self._agent.await_tracing()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM. LabError if the agent does not end well, or if its last totals do not add up."""
        totals = self._agent.terminate()
        if any(totals["imbalances"].values()):
            raise LabError(f"agent on {self.node.name}: totals do not add up: {totals}")

    def ifindex(self, ifname: str) -> int:
        """Index of an interface of the node."""
        return int(json.loads(self.node.run("ip", "-j", "link", "show", ifname))[0]["ifindex"])

    def mark(self) -> None:
        """Forget what was seen so far: the next settle() counts from here."""
        self._counted = self._settled_counters()[0]
        self._agent.start_recording()

    def settle(self) -> Snapshot:
        """What was seen since mark(), once all counters add up (or after 10 s, marked so)."""
        now, settled = self._settled_counters()
        records = self._agent.recorded()
        counters = {name: value - self._counted[name] for name, value in now.items()}
        return Snapshot(records, counters, settled and len(records) == counters["records"])

    def _settled_counters(self) -> tuple[dict[str, int], bool]:
        """The counters once they stand still and add up, and whether they do."""
        seen: list[dict[str, int]] = [{}]

        def is_settled() -> bool:
            seen.append(self._agent.counters())
            return seen[-1] == seen[-2] and not any(imbalances(seen[-1]).values())

        settled = until(is_settled, bool, SETTLE_TIMEOUT_S)
        return seen[-1], settled
