# SPDX-License-Identifier: Apache-2.0
"""The accounting of the demo in lines: counters of the kernel, what the agents stored, what can be read back.

Pure.
"""

from collections.abc import Iterator

from bpf.counters import IDENTITIES
from overhop.demo.outcome import Account, Outcome
from overhop.demo.report import hops_expected
from overhop.demo.stored import KeptHops

LEGEND = (
    "first, second: requests seen where a hop begins and ends; taken: both seen, that is a hop; "
    "records: hops handed to the agent; hops, retransmitted: counted in the store's summaries; samples: "
    "kept in full with their trace id. Parts that are 0 are left out."
)
OWN = "unmatched_local: requests of a node's own processes, such as of its agent to the store's server"
"""Besides, where there are some."""
Line = tuple[str, str]
"""What is added, and whether it adds up."""


def lines_of(outcome: Outcome) -> Iterator[tuple[str, str, str]]:
    """(node, what is added, verdict); the node only in its first line."""
    for node, account in outcome.accounts.items():
        lines = [*identity_lines(account), *output_lines(account, outcome.stored.nodes[node])]
        for at, (line, verdict) in enumerate(lines):
            yield "" if at else node, line, verdict


def legend_of(outcome: Outcome) -> str:
    """What the words of these lines mean."""
    has_own = any(account.counters.get("unmatched_local") for account in outcome.accounts.values())
    return f"{LEGEND} {OWN}." if has_own else LEGEND


def recorded_line(outcome: Outcome) -> str:
    """Hops that arrived here, beside those that the requests must have."""
    each = ", ".join(f"{node} {count:,}" for node, count in outcome.hops_recorded.items())
    recorded = sum(outcome.hops_recorded.values())
    return f"{recorded:,} hops recorded ({each}), {hops_expected(outcome.found):,} expected"


def identity_lines(account: Account) -> list[Line]:
    """(`first 12 = taken 11 + expired 1`, verdict) for each identity of the kernel's counters."""
    counters = dict(account.counters)
    counters["waiting"] += counters.get("swapped", 0)
    return [
        (
            f"{total} {counters[total]:,} = {_parts(**{part: counters[part] for part in parts})}",
            _verdict(account.imbalances[total]),
        )
        for total, parts in IDENTITIES.items()
    ]


def output_lines(account: Account, kept: KeptHops) -> list[Line]:
    """The same of what the agent stored, and of what the store gives back."""
    said, records = account.stored, f"records {account.counters['records']:,}"
    is_back = (said.hops + said.retransmitted, said.samples) == (kept.hops, kept.samples)
    return [
        (
            f"{records} = {_parts(hops=said.hops, retransmitted=said.retransmitted)}",
            _verdict(account.imbalances["summed"]),
        ),
        (
            f"{records} = {_parts(samples=said.samples, not_kept=said.samples_not_kept)}",
            _verdict(account.imbalances["sampled"]),
        ),
        (
            f"read back: {kept.hops:,} hops, {kept.samples:,} samples",
            "all of them" if is_back else "NOT what was stored",
        ),
    ]


def _parts(**parts: int) -> str:
    return " + ".join(f"{name} {count:,}" for name, count in parts.items() if count) or "0"


def _verdict(off: int) -> str:
    return "adds up" if off == 0 else f"does NOT add up: {off:+,d}"
