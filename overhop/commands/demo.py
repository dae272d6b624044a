# SPDX-License-Identifier: Apache-2.0
"""`overhop demo`: real requests over a lab of two nodes, and every hop of them."""

import signal
import sys
from dataclasses import dataclass
from types import FrameType

from overhop import errors, output


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Options of the command."""

    requests: int
    window: int | None
    as_json: bool


def do_demo(options: DemoOptions) -> int:
    """Run it and show the outcome; failed unless every request has all its hops and every counter adds up.

    Raises LabError, DemoError.
    """
    from overhop.demo.report import as_json, problems
    from overhop.demo.run import DemoConfig, Steps, run_demo
    from overhop.demo.view import render

    signal.signal(signal.SIGHUP, _exit_on_signal)
    outcome = run_demo(DemoConfig(options.requests, options.window), Steps(_tell))
    if options.as_json:
        output.show_json(as_json(outcome))
    else:
        output.show(render(outcome, output.console().width))
    wrong = problems(outcome)
    if wrong:
        raise errors.CommandError(f"demo: {'; '.join(wrong)}")
    return errors.DONE


def _tell(step: str) -> None:
    """Progress, for somebody who looks at a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"demo: {step}\n")


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    """A terminal that is closed ends the demo as Ctrl-C does: nothing stays."""
    raise SystemExit(128 + number)
