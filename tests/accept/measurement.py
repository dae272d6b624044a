# SPDX-License-Identifier: Apache-2.0
"""Everything that the measurement must show (issue 3), in full.

`./dev accept measurement [--requests N] [--fuzz N] [--only PART]...` prints PASS or FAIL with the number for
each line and exits with 1 if one failed; what the parts say meanwhile goes to standard error.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

from tests.accept.lines import ROOT, Line, Part, last_json, lines_of, output, show

READER_RECORDS_PER_S = 1_000_000
READER_CPU_S = 0.01
VERIFIER_INSNS = 600_000
MAPS_BYTES = 4 << 20


def demo(_given: argparse.Namespace) -> Iterator[Line]:
    """A fresh clone shows hops of real requests."""
    yield from lines_of(output("tests.accept.demo"))


def pairing(given: argparse.Namespace) -> Iterator[Line]:
    """Every request has its hops; the counters add up to the packet."""
    for one in last_json("tests.accept.pairing", "--requests", str(given.requests))["scenarios"]:
        number = "; ".join(one["problems"]) or f"{one['requests']} requests, {one['requests_per_s']}/s"
        yield Line(f"pairing {one['scenario']}", not one["problems"], number)


def hardiness(_given: argparse.Namespace) -> Iterator[Line]:
    """kill -9, restart, SIGTERM, foreign programs, churn, bad input, RSS, start."""
    yield from lines_of(output("tests.accept.hardiness"))


def datapath(_given: argparse.Namespace) -> Iterator[Line]:
    """Nanoseconds, verifier instructions, memory of the maps."""
    found = last_json("bench.datapath", "--json")
    for case in found["cases"]:
        low, high = case["spread_ns"]
        number = f"{case['net_ns']} ns ({low} to {high}), budget {case['budget_ns']:g}"
        yield Line(f"datapath {case['case']} at window {case['window']}", case["met"], number)
    for program, counts in found["verifier_insns"].items():
        worst = max(counts.values())
        number = f"{worst:,} instructions at window {max(counts, key=int)}, budget {VERIFIER_INSNS:,}"
        yield Line(f"verifier {program}", worst < VERIFIER_INSNS, number)
    number = f"{found['maps_bytes']:,} bytes, budget {MAPS_BYTES:,}"
    yield Line("maps", found["maps_bytes"] <= MAPS_BYTES, number)


def reader(_given: argparse.Namespace) -> Iterator[Line]:
    """The ring reader's speed and cost."""
    found = last_json("bench.ring", "--json")
    speed, load = found["speed"]["median_per_s"], found["load"]["median_cpu_s_per_100k"]
    yield Line(
        "ring reader speed", speed >= READER_RECORDS_PER_S, f"{speed:,.0f} records/s, budget 1,000,000"
    )
    low, high = found["load"]["least_cpu_s_per_100k"], found["load"]["greatest_cpu_s_per_100k"]
    number = f"{load:.4f} CPU s per 100 k ({low:.4f} to {high:.4f}), budget {READER_CPU_S}"
    yield Line("ring reader cost at 100 k/s", load <= READER_CPU_S, number)


def fuzz(given: argparse.Namespace) -> Iterator[Line]:
    """The program against its model."""
    command = ["-m", "tests.oracle", "--packets", str(given.fuzz), "--processes", "2"]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    last = (done.stdout.splitlines() or ["no output"])[-1]
    yield Line("fuzz", done.returncode == 0, last)


PARTS: Mapping[str, Part] = {
    "demo": demo,
    "datapath": datapath,
    "reader": reader,
    "hardiness": hardiness,
    "pairing": pairing,
    "fuzz": fuzz,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts named on the command line, or all; the exit code."""
    parser = argparse.ArgumentParser(prog="./dev accept measurement", description=__doc__)
    parser.add_argument(
        "--requests", type=int, default=100_000, help="per pairing scenario (default %(default)s)"
    )
    parser.add_argument("--fuzz", type=int, default=200_000, help="packets (default %(default)s)")
    return show(parser, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
