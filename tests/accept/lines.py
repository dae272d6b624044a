# SPDX-License-Identifier: Apache-2.0
"""An acceptance run in full: parts that print PASS or FAIL, with a number, for each thing to be shown."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.accept.verdict import Verdict

ROOT = Path(__file__).parents[2]
PART_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that must be shown."""

    name: str
    passed: bool
    number: str

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'} {self.name}: {self.number}"

    @classmethod
    def of(cls, verdict: Verdict) -> "Line":
        """A verdict's problems and numbers in one line."""
        numbers = ", ".join(f"{name} {value}" for name, value in verdict.numbers.items())
        text = "; ".join([*verdict.problems, numbers] if numbers else verdict.problems)
        return cls(verdict.name, not verdict.problems, text or "as it must be")


Part = Callable[[argparse.Namespace], Iterator[Line]]


def output(*command: str, check: bool = True) -> str:
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


def last_json(*command: str) -> Any:  # noqa: ANN401  whatever the module prints
    """The last line that a module prints, which is JSON."""
    return json.loads(output(*command).splitlines()[-1])


def lines_of(text: str) -> Iterator[Line]:
    """Lines that a part prints as PASS or FAIL itself."""
    found = [line.split(" ", 1) for line in text.splitlines() if line.startswith(("PASS ", "FAIL "))]
    if not found:
        yield Line("a part that printed no verdict", passed=False, number=text[-200:].strip() or "no output")
    for verdict, rest in found:
        name, _, number = rest.partition(": ")
        yield Line(name, verdict == "PASS", number)


def environment() -> str:
    """What the numbers were measured on."""
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


def show(parser: argparse.ArgumentParser, parts: Mapping[str, Part], arguments: Sequence[str] | None) -> int:
    """Run the parts that `--only` names, or all, and print their lines; the exit code: 1 if one failed."""
    parser.add_argument("--only", action="append", choices=list(parts), default=[], help="repeatable")
    given = parser.parse_args(arguments)
    print(environment(), flush=True)
    failed = total = 0
    for name in given.only or parts:
        started_s = time.monotonic()
        for line in _lines(name, parts[name], given):
            print(line, flush=True)
            total += 1
            failed += not line.passed
        print(f"     {name} took {time.monotonic() - started_s:.0f} s", flush=True)
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed else 0


def _lines(name: str, part: Part, given: argparse.Namespace) -> Iterator[Line]:
    """What breaks down is a FAIL; the other parts shall run too."""
    try:
        yield from part(given)
    except Exception as error:  # noqa: BLE001
        traceback.print_exception(error)
        yield Line(name, passed=False, number=f"{type(error).__name__}: {error}")
