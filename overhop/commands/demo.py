# SPDX-License-Identifier: Apache-2.0
"""`overhop demo`: real requests over a lab of two nodes, and every hop of them."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from overhop import errors, output

if TYPE_CHECKING:
    from overhop.lab.influxd import Server
    from overhop.lab.options import Cni
    from overhop.lab.tracers import Tracer
    from overhop.sidecar.filters import Mode


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Options of the command."""

    requests: int
    cni: "Cni"
    with_sidecars: bool
    relocation: "Mode"
    tracer: "Tracer"
    rate_hz: float | None
    window: int | None
    store: str | None
    """Directory where hops stay, or the server that is started for them; None: nowhere."""
    serves: bool | None
    """The lab stays up until Ctrl-C; None: if somebody looks at a terminal."""
    as_json: bool


def do_demo(options: DemoOptions) -> int:
    """Run it and show the outcome; failed unless every request has all its hops and every counter adds up.

    Raises LabError, DemoError, StoreError.
    """
    from overhop import signals
    from overhop.demo.outcome import Outcome
    from overhop.demo.report import as_json, problems
    from overhop.demo.run import DemoConfig, run_demo
    from overhop.demo.serving import Invitation
    from overhop.demo.steps import Steps
    from overhop.demo.view import invitation_lines, render
    from overhop.lab.envoy import EnvoyMissingError

    config = DemoConfig(
        requests=options.requests,
        cni=options.cni,
        with_sidecars=options.with_sidecars,
        relocation=options.relocation,
        tracer=options.tracer,
        rate_hz=options.rate_hz,
        window=options.window,
        store=_store(options.store),
        serves=sys.stdout.isatty() and not options.as_json if options.serves is None else options.serves,
    )

    def show(outcome: Outcome, invited: Invitation | None) -> None:
        if options.as_json:
            invitation = None if invited is None else asdict(invited)
            output.show_json(as_json(outcome) | {"invitation": invitation})
        else:
            output.show(render(outcome, output.console().width, is_up=invited is not None))
            if invited is not None:
                output.show_lines(invitation_lines(invited, outcome))

    try:
        with signals.FirstOf(signals.ENDING):
            outcome = run_demo(config, Steps(_tell), show)
    except EnvoyMissingError as error:
        raise errors.CommandError(f"{error}; or run the demo without sidecars: --no-sidecar") from error
    wrong = problems(outcome)
    if wrong:
        raise errors.CommandError(f"demo: {'; '.join(wrong)}")
    return errors.DONE


def _store(given: str | None) -> "Path | Server | None":
    """Raises UsageError: the nodes of the lab reach no server but the demo's own, and it is read back.

    The message does not repeat a URL, in which there may be a password.
    """
    from overhop.config import NONE
    from overhop.lab.influxd import SERVERS
    from store.influxdb.target import SCHEMES, is_target

    if given in (None, NONE):
        return None
    for server in SERVERS:
        if given == server:
            return server
    known = f"give {' or '.join(SERVERS)}, which the demo starts itself, or a directory"
    if is_target(given):
        raise errors.UsageError(f"--store: nodes of the lab do not reach a server outside of it: {known}")
    if given in SCHEMES:
        raise errors.UsageError(f"--store {given}: it cannot be read back: {known} (./{given})")
    return Path(given).absolute()


def _tell(step: str) -> None:
    """Progress, for somebody who looks at a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"demo: {step}\n")
