# SPDX-License-Identifier: Apache-2.0
"""What the kernel programs cost a packet, the verifier and memory: `./dev bench datapath [--json]`.

BPF_PROG_TEST_RUN on one pinned CPU, caches warm, in CPU time of this thread (other processes do not count),
net of an empty program that runs right before; the median over rounds that take all cases in turn. The bench
programs move the key on with every run: each pair is taken, searched and recorded, and the counters are
checked for it. Live costs are about twice what warm caches show.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from agent.loading.loader import ALL_PROGRAMS
from bench import datapath_packets as packets
from bench.datapath_rig import ENDS, Case, Rig, maps_bytes, verifier_insns
from bench.machine import environment
from bpf.spec import SOURCE, ProgramSpec

WINDOWS = (1500, 4096, 8192)
DEFAULT_WINDOW = ProgramSpec().window
REPEAT = 10_000
FIRST_REPEAT = 2_000
"""First points fill the table: fewer than it has ways, so that stamps fall on taken ways, as on a node."""
BUDGET_VERIFIER_INSNS = 600_000
BUDGET_MAPS_BYTES = 4 << 20
SHORT_BUDGET_NS, LONG_BUDGET_NS = 450, 680
"""Pairs with the context within 1.4 KB, and at 3 KB."""


@dataclass(frozen=True, slots=True)
class Result:
    """Net costs of a case in all rounds, at the program where their median is larger."""

    case: Case
    window: int
    program: str
    rounds_ns: tuple[float, ...]

    @property
    def net_ns(self) -> float:
        """Median over the rounds."""
        return statistics.median(self.rounds_ns)

    @property
    def quartiles_ns(self) -> tuple[float, float]:
        """A half of the rounds lies between."""
        low, _, high = statistics.quantiles(self.rounds_ns, n=4)
        return low, high

    @property
    def is_met(self) -> bool:
        """Is the budget met?"""
        return self.net_ns <= self.case.budget_ns


def all_cases() -> Iterator[tuple[int, Case]]:
    """Each case with its window. Budgets: design section 14."""
    window = DEFAULT_WINDOW
    yield window, Case("non_ip", packets.non_ip(), ENDS, 5, REPEAT)
    yield window, Case("ack", packets.ack(), ENDS, 5, REPEAT)
    yield window, Case("tcp_not_http", packets.tcp_not_http(), ENDS, 30, REPEAT)
    first = packets.request(400)
    yield window, Case("first", first, ("oh_bench_first",), 80, FIRST_REPEAT, counted=("first",))
    for offset in (45, 400, 700, 1400):
        yield window, _pair(f"pair_{offset}", packets.request(offset), offset)
    for window in (DEFAULT_WINDOW, 8192):
        yield window, _pair("pair_3000", packets.request(3000), 3000, budget_ns=LONG_BUDGET_NS)
    window = DEFAULT_WINDOW
    yield window, _pair("pair_no_context_1400", packets.request_without_context(1400), 0)
    in_vxlan = packets.in_vxlan(packets.request(700))
    yield window, _pair("pair_vxlan_700", in_vxlan, 700, program="oh_bench_pair_nic")


def _pair(
    name: str,
    packet: bytes,
    context_at: int,
    *,
    budget_ns: float = SHORT_BUDGET_NS,
    program: str = "oh_bench_pair",
) -> Case:
    counted = ("first", "second", "taken", "records")
    return Case(name, packet, (program,), budget_ns, REPEAT, counted, context_at)


def measure(rigs: Mapping[int, Rig], cases: Sequence[tuple[int, Case]], rounds: int) -> list[Result]:
    """All cases in turn, `rounds` times; one round before that warms up."""
    found: dict[tuple[int, str, str], list[float]] = {}
    for window, case in cases:
        rigs[window].check_records(case)
    for number in range(rounds + 1):
        _show_progress(f"round {number} of {rounds}")
        for window, case in cases:
            for program in case.programs:
                net_ns = rigs[window].net_ns(case, program)
                if number:
                    found.setdefault((window, case.name, program), []).append(net_ns)
    _show_progress("")
    return [_dearest(window, case, found) for window, case in cases]


def _dearest(window: int, case: Case, found: Mapping[tuple[int, str, str], list[float]]) -> Result:
    results = (
        Result(case, window, program, tuple(found[window, case.name, program])) for program in case.programs
    )
    return max(results, key=lambda result: result.net_ns)


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def pin() -> int:
    """This thread stays on the CPU where it is: the programs' memory is per CPU."""
    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    return cpu


def as_object(
    results: Sequence[Result], insns: Mapping[str, Mapping[str, int]], maps: int, where: Mapping[str, object]
) -> dict[str, object]:
    """The result for machines: times in ns, spread = quartiles."""
    cases = [
        {
            "case": one.case.name,
            "window": one.window,
            "net_ns": round(one.net_ns, 1),
            "spread_ns": [round(border, 1) for border in one.quartiles_ns],
            "program": one.program,
            "budget_ns": one.case.budget_ns,
            "met": one.is_met,
        }
        for one in results
    ]
    return {"cases": cases, "verifier_insns": insns, "maps_bytes": maps, "environment": where}


def as_text(
    results: Sequence[Result], insns: Mapping[str, Mapping[str, int]], maps: int, where: Mapping[str, object]
) -> str:
    """The result for people."""
    lines = [", ".join(f"{name} {value}" for name, value in where.items()), ""]
    lines.append(f"{'case':<22}{'window':>7}{'net ns':>9}{'quartiles':>17}{'budget':>8}  at")
    for one in results:
        low, high = one.quartiles_ns
        lines.append(
            f"{one.case.name:<22}{one.window:>7}{one.net_ns:>9.1f}{f'{low:.1f} to {high:.1f}':>17}"
            f"{one.case.budget_ns:>8.0f}  {one.program} {verdict(one.is_met)}"
        )
    lines += ["", f"{'verifier insns':<22}" + "".join(f"{f'window {window}':>14}" for window in WINDOWS)]
    for program, counts in insns.items():
        worst = max(counts.values())
        numbers = "".join(f"{count:>14,}" for count in counts.values())
        lines.append(f"{program:<22}{numbers}  {verdict(worst < BUDGET_VERIFIER_INSNS)}")
    lines.append(f"budget {BUDGET_VERIFIER_INSNS:,} at window 8192")
    is_small = verdict(maps <= BUDGET_MAPS_BYTES)
    lines += ["", f"maps: {maps:,} bytes, budget {BUDGET_MAPS_BYTES:,}: {is_small}"]
    return "\n".join(lines)


def verdict(is_met: bool) -> str:
    """A word for the table."""
    return "met" if is_met else "MISSED"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="./dev bench datapath", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    parser.add_argument("--rounds", type=int, default=40, help="rounds over all cases (default %(default)s)")
    parser.add_argument("--source", type=Path, default=SOURCE, help="another C file than that of the product")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds}: a median with its quartiles needs at least 2")
    cases = list(all_cases())
    where = environment() | {"pinned_to": pin(), "rounds": options.rounds, "repeat": REPEAT}
    with ExitStack() as stack:
        windows = sorted({window for window, _ in cases})
        rigs = {window: stack.enter_context(Rig(window, options.source)) for window in windows}
        results = measure(rigs, cases, options.rounds)
        maps = maps_bytes(rigs[DEFAULT_WINDOW].loaded)
    insns = verifier_insns(WINDOWS, ALL_PROGRAMS, options.source)
    if options.json:
        print(json.dumps(as_object(results, insns, maps, where)))
    else:
        print(as_text(results, insns, maps, where))


if __name__ == "__main__":
    main()
