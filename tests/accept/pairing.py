# SPDX-License-Identifier: Apache-2.0
"""Pairing, scenario by scenario (issue 3): every request has its hops, and the counters add up to the packet.

`./dev accept pairing [--requests N] [--connections C] [--only NAME]...` prints one JSON object and exits
with 1 if a scenario has problems. tests/e2e/test_pairing.py runs all of them in short.
"""

import argparse
import json
import sys
from collections.abc import Collection, Iterator
from dataclasses import asdict

from tests.accept import cnis, overlay, routes
from tests.accept.scenario import Size
from tests.accept.town import Measured, Towns

SCENARIOS = (*overlay.SCENARIOS, *routes.SCENARIOS, *cnis.SCENARIOS)


def run(size: Size, names: Collection[str] = ()) -> Iterator[Measured]:
    """The outcomes of the named scenarios, or of all, each reported on standard error as it comes."""
    with Towns() as towns:
        for entry in SCENARIOS:
            if names and entry.name not in names:
                continue
            outcome = entry.run(towns, size)
            verdict = "; ".join(outcome.problems) or "ok"
            rate = f"{outcome.requests} requests, {outcome.requests_per_s}/s"
            sys.stderr.write(f"{outcome.scenario}: {rate}: {verdict}\n")
            yield outcome


def main() -> int:
    """Run the scenarios named on the command line, or all; return the exit code."""
    names = [entry.name for entry in SCENARIOS]
    parser = argparse.ArgumentParser(prog="./dev accept pairing", description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="per scenario (default 100000)")
    parser.add_argument("--connections", type=int, default=16, help="keep-alive connections (default 16)")
    parser.add_argument("--only", action="append", choices=names, default=[], help="a scenario; repeatable")
    arguments = parser.parse_args()
    outcomes = [
        asdict(outcome) for outcome in run(Size(arguments.requests, arguments.connections), arguments.only)
    ]
    failed = [outcome["scenario"] for outcome in outcomes if outcome["problems"]]
    print(json.dumps({"scenarios": outcomes, "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
