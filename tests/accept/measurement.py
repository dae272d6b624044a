# SPDX-License-Identifier: Apache-2.0
"""Everything that the measurement must show (issue 3), in full.

`./dev accept measurement [--requests N] [--fuzz N] [--only PART]...` prints PASS or FAIL with the number for
each line and exits with 1 if one failed; what the parts say meanwhile goes to standard error.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PART_TIMEOUT_S = 3600.0
READER_RECORDS_PER_S = 1_000_000
READER_CPU_S = 0.01
VERIFIER_INSNS = 600_000
MAPS_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that must be shown."""

    name: str
    passed: bool
    number: str

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'} {self.name}: {self.number}"


@dataclass(frozen=True, slots=True)
class Options:
    """How much is sent."""

    requests: int
    fuzz: int


def _output(*command: str, check: bool = True) -> str:
    """Standard output of a module of this checkout, its standard error passed on."""
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PART_TIMEOUT_S,
        check=False,
    )
    if check and done.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}")
    return done.stdout


def _json(*command: str) -> Any:  # noqa: ANN401  whatever the module prints
    return json.loads(_output(*command).splitlines()[-1])


def demo(_options: Options) -> Iterator[Line]:
    """A fresh clone shows hops of real requests."""
    yield from _lines_of(_output("tests.accept.demo"))


def pairing(options: Options) -> Iterator[Line]:
    """Every request has its hops; the counters add up to the packet."""
    for one in _json("tests.accept.pairing", "--requests", str(options.requests))["scenarios"]:
        number = "; ".join(one["problems"]) or f"{one['requests']} requests, {one['requests_per_s']}/s"
        yield Line(f"pairing {one['scenario']}", not one["problems"], number)


def hardiness(_options: Options) -> Iterator[Line]:
    """kill -9, restart, SIGTERM, foreign programs, churn, bad input, RSS, start."""
    yield from _lines_of(_output("tests.accept.hardiness"))


def datapath(_options: Options) -> Iterator[Line]:
    """Nanoseconds, verifier instructions, memory of the maps."""
    found = _json("bench.datapath", "--json")
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


def reader(_options: Options) -> Iterator[Line]:
    """The ring reader's speed and cost."""
    found = _json("bench.ring", "--json")
    speed, load = found["speed"]["median_per_s"], found["load"]["median_cpu_s_per_100k"]
    yield Line(
        "ring reader speed", speed >= READER_RECORDS_PER_S, f"{speed:,.0f} records/s, budget 1,000,000"
    )
    low, high = found["load"]["least_cpu_s_per_100k"], found["load"]["greatest_cpu_s_per_100k"]
    number = f"{load:.4f} CPU s per 100 k ({low:.4f} to {high:.4f}), budget {READER_CPU_S}"
    yield Line("ring reader cost at 100 k/s", load <= READER_CPU_S, number)


def fuzz(options: Options) -> Iterator[Line]:
    """The program against its model."""
    command = ["-m", "tests.oracle", "--packets", str(options.fuzz), "--processes", "2"]
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    last = (done.stdout.splitlines() or ["no output"])[-1]
    yield Line("fuzz", done.returncode == 0, last)


PARTS: Mapping[str, Callable[[Options], Iterator[Line]]] = {
    "demo": demo,
    "datapath": datapath,
    "reader": reader,
    "hardiness": hardiness,
    "pairing": pairing,
    "fuzz": fuzz,
}


def _lines_of(text: str) -> Iterator[Line]:
    """Lines that a part prints as PASS or FAIL itself."""
    found = [line.split(" ", 1) for line in text.splitlines() if line.startswith(("PASS ", "FAIL "))]
    if not found:
        yield Line("a part that printed no verdict", passed=False, number=text[-200:].strip() or "no output")
    for verdict, rest in found:
        name, _, number = rest.partition(": ")
        yield Line(name, verdict == "PASS", number)


def _environment() -> str:
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    memory = next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines())
    facts = (
        f"commit {commit or 'unknown'}",
        time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        f"Linux {platform.release()} {platform.machine()}",
        f"{os.cpu_count()} CPUs",
        f"{int(memory) >> 20} GiB",
        f"Python {platform.python_version()}",
        f"load {os.getloadavg()[0]:.1f}",
    )
    return ", ".join(facts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts named on the command line, or all; the exit code."""
    parser = argparse.ArgumentParser(prog="./dev accept measurement", description=__doc__)
    parser.add_argument(
        "--requests", type=int, default=100_000, help="per pairing scenario (default %(default)s)"
    )
    parser.add_argument("--fuzz", type=int, default=200_000, help="packets (default %(default)s)")
    parser.add_argument("--only", action="append", choices=list(PARTS), default=[], help="repeatable")
    given = parser.parse_args(arguments)
    print(_environment(), flush=True)
    failed = total = 0
    for part in given.only or PARTS:
        started = time.monotonic()
        for line in PARTS[part](Options(given.requests, given.fuzz)):
            print(line, flush=True)
            total += 1
            failed += not line.passed
        print(f"     {part} took {time.monotonic() - started:.0f} s", flush=True)
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
