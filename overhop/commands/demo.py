# SPDX-License-Identifier: Apache-2.0
"""`overhop demo`: real requests over a lab of two nodes, and every hop of them."""

import signal
import sys
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from overhop import errors, output

if TYPE_CHECKING:
    from overhop.lab.options import Cni


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Options of the command."""

    requests: int
    cni: "Cni"
    with_sidecars: bool
    rate_hz: float | None
    window: int | None
    as_json: bool


def do_demo(options: DemoOptions) -> int:
    """Run it and show the outcome; failed unless every request has all its hops and every counter adds up.

    Raises LabError, DemoError.
    """
    from overhop.demo.report import as_json, problems
    from overhop.demo.run import DemoConfig, run_demo
    from overhop.demo.steps import Steps
    from overhop.demo.view import render
    from overhop.lab.envoy import EnvoyMissingError

    signal.signal(signal.SIGHUP, _exit_on_signal)
    config = DemoConfig(options.requests, options.cni, options.with_sidecars, options.rate_hz, options.window)
    try:
        outcome = run_demo(config, Steps(_tell))
    except EnvoyMissingError as error:
        raise errors.CommandError(f"{error}; or run the demo without sidecars: --no-sidecar") from error
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
