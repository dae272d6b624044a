# SPDX-License-Identifier: Apache-2.0
"""The most memory that the store's writer needs, for an hour of millions of samples (budget 130 MB)."""

import subprocess
import sys
import time
from pathlib import Path

from bench.store_data import STEP_S, Node, Shape
from tests.accept.lines import ROOT

ROUNDS = 8
_S_NS = 1_000_000_000
_COMPACT = """
import sys
from pathlib import Path
from store.writer import spare_memory
spare_memory()
from store.compactor import Compactor
compactor = Compactor(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    compactor.round()
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024)
"""


def fill_hour(store: Path, samples: int) -> None:
    """The hour before this one, of one node, in segments."""
    hour_ns = (time.time_ns() // (3600 * _S_NS) - 1) * 3600 * _S_NS
    node = Node(store, 0, Shape(samples, nodes=1, until_ns=0))
    for elapsed_s in range(STEP_S, 3600, STEP_S):
        node.step(hour_ns + elapsed_s * _S_NS, elapsed_s)
    node.close()


def peak_bytes(store: Path) -> int:
    """Of a writer's process that compacts all of it; not ru_maxrss, in which exec leaves the parent's."""
    done = subprocess.run(
        [sys.executable, "-c", _COMPACT, str(store), str(ROUNDS)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)
