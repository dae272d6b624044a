# SPDX-License-Identifier: Apache-2.0
"""The demo from a fresh clone (issue 3): `./dev accept demo` prints PASS or FAIL with the numbers.

Clones the committed state of this checkout into a temporary directory and runs `./dev demo --json` there,
setup included.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 900.0
DEMO_S_MAX = 40.0
"""Of the demo itself, without setup, on two cores."""
KEYS = ("requests", "traces_found", "hops", "counters", "topology")
KINDS = ("rx", "tx", "local")
KINDS_WITHOUT_SIDECARS = (*KINDS, "forward")
NUMBERS = ("count", "p50_us", "p99_us", "max_us")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of `./dev demo --json` in a fresh clone."""

    code: int
    out: str
    err: str
    seconds: float


@contextmanager
def fresh_clone() -> Iterator[Path]:
    """What is committed, as a new user gets it. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="overhop-accept-demo-") as directory:
        clone = Path(directory, "overhop")
        git = ("git", "-c", f"safe.directory={ROOT}", "-c", f"safe.directory={ROOT}/.git")
        subprocess.run([*git, "clone", "-q", "--no-hardlinks", str(ROOT), str(clone)], check=True)
        yield clone


def run(clone: Path, requests: int, *more: str) -> Run:
    """Set up what is missing, run with `more` options."""
    began_s = time.monotonic()
    done = subprocess.run(
        [clone / "dev", "demo", "--json", "--no-serve", "--requests", str(requests), *more],
        cwd=clone.parent,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Run(done.returncode, done.stdout, done.stderr, time.monotonic() - began_s)


def problems(done: Run, requests: int) -> list[str]:
    """What is not as promised."""
    if done.code != 0:
        return [f"exit code {done.code}: {' '.join(done.err.splitlines()[-1:])}"]
    if len(done.out.splitlines()) != 1:
        return [f"standard output has {len(done.out.splitlines())} lines, not one JSON object"]
    said: dict[str, Any] = json.loads(done.out)  # parsed JSON
    missing = [key for key in KEYS if key not in said]
    if missing:
        return [f"without {', '.join(missing)}"]
    found = []
    if not said["requests"] == said["traces_found"] == requests:
        found.append(f"{said['traces_found']} of {said['requests']} requests found, {requests} asked for")
    kinds = KINDS if said["sidecars"] else KINDS_WITHOUT_SIDECARS
    found += [f"hops: no {kind}" for kind in kinds if kind not in said["hops"]]
    for kind, hops in said["hops"].items():
        found += [f"hops: {kind} without {name}" for name in NUMBERS if not hops.get(name)]
    if any(said["imbalances"]["total"].values()):
        found.append(f"counters do not add up: {said['imbalances']['total']}")
    if demo_s(said) > DEMO_S_MAX:
        found.append(f"the demo took {demo_s(said):.1f} s, at most {DEMO_S_MAX:.0f} s")
    return found


def demo_s(said: dict[str, Any]) -> float:  # parsed JSON
    """Seconds of all steps of the demo, without setup."""
    return float(sum(said["steps_s"].values()))


def numbers(done: Run) -> str:
    """What a PASS line says."""
    said: dict[str, Any] = json.loads(done.out)  # parsed JSON
    hops = ", ".join(
        f"{kind} {hops['count']} p50 {hops['p50_us']} p99 {hops['p99_us']} max {hops['max_us']} us"
        for kind, hops in said["hops"].items()
    )
    return (
        f"{said['traces_found']} of {said['requests']} requests found; {hops}; "
        f"demo {demo_s(said):.1f} s, with setup {done.seconds:.1f} s"
    )


def main() -> int:
    """Run it once; exit code 1 if something is not as promised."""
    parser = argparse.ArgumentParser(
        prog="./dev accept demo", description=__doc__, epilog="Other options go to the demo."
    )
    parser.add_argument("--requests", type=int, default=400, help="how many (default 400)")
    options, more = parser.parse_known_args()
    requests = options.requests
    with fresh_clone() as clone:
        done = run(clone, requests, *more)
    sys.stderr.write(done.err)
    wrong = problems(done, requests)
    print(f"FAIL demo: {'; '.join(wrong)}" if wrong else f"PASS demo: {numbers(done)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
