# SPDX-License-Identifier: Apache-2.0
"""How fast a store is asked, as whole processes: `./dev bench store_read DIRECTORY [--rounds N]`.

DIRECTORY is what `./dev bench store_data` wrote. Each question is asked by a new Python, imports included;
files are in the page cache after the first round, which is left out. Budget: an hour of 10 million hops in
1 s with the command line around it, so 0.4 s here on 2 CPUs of our own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.machine import environment
from store.embedded import EmbeddedStore

QUESTIONS = {
    "summaries of the hour, 14 columns": "store.summaries(hour, Where(), columns=COLUMNS)",
    "summaries of the hour, all columns": "store.summaries(hour, Where())",
    "slowest 10,000 samples from 100 us on": "store.samples(hour, Where(), 100_000)",
    "one trace": "store.trace(TraceId(1, 2))",
    "nodes": "store.nodes()",
}
CHILD = """
import sys
from pathlib import Path
from store.embedded import EmbeddedStore
from store.query import Span, TraceId, Where
COLUMNS = ("node", "kind", "src_ns", "src_workload", "dst_ns", "dst_workload", "service", "time", "context",
           "count", "retransmitted", "min_ns", "max_ns", "hist")
store, until_ns = EmbeddedStore(Path(sys.argv[1])), int(sys.argv[2])
hour = Span(until_ns - 3_600_000_000_000, until_ns)
"""


def last_ns(directory: Path) -> int:
    """A second after the last sample."""
    store = EmbeddedStore(directory)
    try:
        return max(node["last_ns"] for node in store.nodes().values()) + 1_000_000_000
    finally:
        store.close()


def seconds(question: str, directory: Path, until_ns: int) -> tuple[float, float]:
    """Wall and CPU time of a process that asks it."""
    before, begin_s = os.times(), time.monotonic()
    subprocess.run([sys.executable, "-c", CHILD + question, str(directory), str(until_ns)], check=True)
    wall_s, after = time.monotonic() - begin_s, os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return wall_s, used


def main() -> None:
    """Ask everything some times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    until_ns = last_ns(given.directory)
    print(json.dumps({"environment": environment(), "command": sys.argv, "rounds": given.rounds}))
    for name, question in QUESTIONS.items():
        rounds = [seconds(question, given.directory, until_ns) for _ in range(given.rounds + 1)][1:]
        walls, used = zip(*rounds, strict=True)
        found = {"median_s": statistics.median(walls), "least_s": min(walls), "greatest_s": max(walls)}
        found["cpu_s"] = statistics.median(used)
        print(json.dumps({"question": name, **{key: round(value, 3) for key, value in found.items()}}))


if __name__ == "__main__":
    main()
