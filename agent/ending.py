# SPDX-License-Identifier: Apache-2.0
"""What an agent says at its end, and whether it adds up."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from agent.storing.output import OutputFacts
from bpf.counters import imbalances


@dataclass(frozen=True, slots=True)
class Ending:
    """An agent's totals, exact: its counters, and what was stored (None: nothing)."""

    counters: Mapping[str, int]
    output: OutputFacts | None


def report(ending: Ending) -> dict[str, object]:
    """As `overhop agent --json` prints it (docs/cli.md): imbalances are zero once traffic has stopped."""
    counters, output = ending.counters, ending.output
    found = imbalances({**counters, "waiting": counters["waiting"] + counters["swapped"]})
    if output is None:
        return {"counters": counters, "imbalances": found, "stored": None}
    totals, store = output.totals, output.store
    found["summed"] = counters["records"] - totals.hops - totals.retransmitted
    found["sampled"] = counters["records"] - totals.samples - totals.samples_not_kept
    spool = None if store.spool is None else asdict(store.spool)
    stored = {"rows": dict(store.appended), "dropped": dict(store.dropped), "spool": spool} | asdict(totals)
    return {"counters": counters, "imbalances": found, "stored": stored}
