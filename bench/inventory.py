# SPDX-License-Identifier: Apache-2.0
"""How long it takes to learn a node's pods from its container runtime: all of them, and one that is new.

The runtime is a made one behind a real Unix socket with real HTTP/2; it takes its own time on the same CPUs,
so what is told is more than what the reader needs. Statuses are as large as containerd's.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from bench.machine import environment
from collector.node.pods.cri import CriPods
from tests.fake_cri import Runtime, serving

PODS = 250
REPEATS = 9


def measured(pods: int) -> dict[str, float]:
    """Milliseconds: for all pods, for one more, and where nothing changed; and CPU of both sides for all."""
    with tempfile.TemporaryDirectory(prefix="overhop-inventory-") as directory:
        path = Path(directory, "cri.sock")
        runtime = Runtime(pods)
        with serving(path, runtime):
            one = CriPods(str(path))
            began_s, cpu_s = time.perf_counter(), time.process_time()
            assert len(one.pods()) == pods, one.problem
            all_s, all_cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
            runtime.pods[pods] = None
            began_s = time.perf_counter()
            assert len(one.pods()) == pods + 1, one.problem
            more_s = time.perf_counter() - began_s
            began_s = time.perf_counter()
            one.pods()
            same_s = time.perf_counter() - began_s
            one.close()
    found = {
        f"inventory_{pods}_pods_ms": all_s,
        "one_more_ms": more_s,
        "no_change_ms": same_s,
        "cpu_of_both_sides_ms": all_cpu_s,
    }
    return {name: round(value * 1e3, 1) for name, value in found.items()}


def inventory_ms() -> dict[str, float]:
    """Median of some runs with the pods of a full node: `inventory_250_pods_ms`."""
    name = f"inventory_{PODS}_pods_ms"
    return {name: statistics.median(measured(PODS)[name] for _ in range(REPEATS))}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pods", type=int, default=PODS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    runs = [measured(options.pods) for _ in range(REPEATS)]
    result = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    most = {name: max(run[name] for run in runs) for name in runs[0]}
    if options.json:
        print(json.dumps({"environment": environment(), "repeats": REPEATS, "most": most, **result}))
        return
    for name, value in result.items():
        print(f"{name:28} {value:8.1f}   most {most[name]:.1f}")


if __name__ == "__main__":
    main()
