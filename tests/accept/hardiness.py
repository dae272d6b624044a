# SPDX-License-Identifier: Apache-2.0
"""Hardiness of the agent (issue 3): killed, restarted, replanned, churned, fed with bad input.

`./dev accept hardiness [--only NAME]... [--json]` prints PASS or FAIL with the numbers for each scenario and
exits with 1 on FAIL. tests/e2e/test_hardiness.py runs short forms.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict

from tests.accept.bad_input import bad_input
from tests.accept.budgets import budgets
from tests.accept.churn import churn
from tests.accept.lifecycle import Stage, lifecycle, stage
from tests.accept.midway import disk_full, interface_gone, overrun
from tests.accept.replan import replan
from tests.accept.verdict import Verdict

RATE_HZ = 1000.0
PODS = 200
REQUESTS = 100_000

SCENARIOS: Mapping[str, Callable[[Stage], Verdict]] = {
    "lifecycle-tcx": lambda place: lifecycle(place, "tcx", RATE_HZ),
    "lifecycle-clsact": lambda place: lifecycle(place, "clsact", RATE_HZ),
    "churn": lambda place: churn(place, PODS, RATE_HZ),
    "replan-tcx": lambda place: replan(place, "tcx", RATE_HZ),
    "replan-clsact": lambda place: replan(place, "clsact", RATE_HZ),
    "bad-input": bad_input,
    "interface-gone": lambda place: interface_gone(place, RATE_HZ),
    "ring-overrun": overrun,
    "disk-full": disk_full,
    "budgets": lambda place: budgets(place, REQUESTS),
}


def measured(name: str) -> Verdict:
    """One scenario in a lab of its own; what breaks down is a FAIL."""
    try:
        with stage() as place:
            return SCENARIOS[name](place)
    except Exception as error:  # noqa: BLE001  the others shall run too
        traceback.print_exception(error)
        return Verdict(name, problems=[f"{type(error).__name__}: {error}"])


def main() -> int:
    """Run the scenarios named on the command line, or all; return the exit code."""
    parser = argparse.ArgumentParser(prog="./dev accept hardiness", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(SCENARIOS), default=[], help="repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    arguments = parser.parse_args()
    verdicts = []
    for name in arguments.only or SCENARIOS:
        verdicts.append(measured(name))
        print(verdicts[-1], file=sys.stderr if arguments.json else sys.stdout, flush=True)
    failed = [verdict.name for verdict in verdicts if verdict.problems]
    if arguments.json:
        print(json.dumps({"scenarios": [asdict(verdict) for verdict in verdicts], "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
