# SPDX-License-Identifier: Apache-2.0
"""`overhop sidecar verify`: where contexts are in requests, and how many a window finds."""

import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from overhop import errors, output
from overhop.errors import UsageError
from overhop.text import counted

if TYPE_CHECKING:
    from bpf.spec import ProgramSpec
    from overhop.sidecar.live import Listener
    from overhop.sidecar.pcap import Frame
    from overhop.sidecar.report import Report
    from overhop.sidecar.tally import Tally

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Options of the command."""

    pcap: str | None
    """A file, or STANDARD_INPUT."""
    interface: str | None
    seconds: float
    requests: int | None
    window: int
    threshold: float
    plan: Path | None
    svg: Path | None
    as_json: bool


def do_verify(options: VerifyOptions) -> int:
    """Look, count, show; 1 if fewer contexts than the threshold are found within the window.

    Raises UsageError, CommandError, PlanError.
    """
    if (options.pcap is None) == (options.interface is None):
        raise UsageError("give either --pcap FILE or --interface NAME: where packets come from")
    report = verified(options)
    if options.svg is not None:
        _write_picture(options.svg, report)
    if options.as_json:
        from overhop.sidecar.view import as_json

        output.show_json(as_json(report))
    else:
        from overhop.sidecar.view import render

        output.show(render(report))
    return errors.DONE if report.is_enough else errors.FAILED


def verified(options: VerifyOptions) -> "Report":
    """The result of what passes, or of a capture."""
    from overhop.sidecar.live import Listener
    from overhop.sidecar.packets import Tunnels
    from overhop.sidecar.report import Asked, report_of
    from overhop.sidecar.tally import Tally

    names, spec = _plan(options.plan)
    tunnels = Tunnels.of(spec)
    tally = Tally(options.window, tunnels, spec.contexts)
    if options.interface is not None:
        source, notes = _listen(options, Listener(options.interface, tunnels), tally)
    else:
        source, notes = _read(options, options.pcap or STANDARD_INPUT, tally)
    asked = Asked(source, options.window, options.threshold, tuple(notes))
    return report_of(tally.end(), asked, lambda address: names.get(address, ""))


def _plan(file: Path | None) -> "tuple[dict[bytes, str], ProgramSpec]":
    """Names by address, and what the tracer searches for."""
    from bpf.spec import ProgramSpec

    if file is None:
        return {}, ProgramSpec()
    from agent.plan.model import load_plan
    from overhop.sidecar.named import names_of

    plan = load_plan(file)
    return names_of(plan), plan.spec()


def _read(options: VerifyOptions, name: str, tally: "Tally") -> tuple[str, list[str]]:
    """All of a capture."""
    from overhop.sidecar.pcap import CaptureFile

    shown = "standard input" if name == STANDARD_INPUT else name
    with _opened(name) as file, output.patience(f"reading {shown}"):
        capture = CaptureFile(file, shown)
        is_interrupted = _take(capture.frames(), tally, options.requests)
    notes = [f"{shown} {capture.damage}: what comes before that was counted"] if capture.damage else []
    return shown, notes + _interrupted(is_interrupted=is_interrupted)


def _listen(options: VerifyOptions, listener: "Listener", tally: "Tally") -> tuple[str, list[str]]:
    """What passes an interface for a while."""
    interface = listener.interface
    most = f" or {counted(options.requests, 'request')}" if options.requests else ""
    with output.patience(f"listening on {interface} for {options.seconds:g} s{most}"):
        is_interrupted = _take(listener.frames(options.seconds), tally, options.requests)
    notes = [listener.trouble] if listener.trouble else []
    return f"interface {interface}, by a packet socket", notes + _interrupted(is_interrupted=is_interrupted)


def _take(frames: "Generator[Frame, None, None]", tally: "Tally", most_requests: int | None) -> bool:
    """Count packets until there are no more, or enough requests; whether Ctrl-C ended it before."""
    try:
        with closing(frames):
            for frame in frames:
                tally.take(frame)
                if most_requests is not None and tally.counts.with_context >= most_requests:
                    break
    except KeyboardInterrupt:
        return True
    return False


def _interrupted(*, is_interrupted: bool) -> list[str]:
    return ["interrupted: what came before was counted"] if is_interrupted else []


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115  below
    except OSError as error:
        raise UsageError(f"--pcap {name}: {error.strerror}") from None
    with file:
        yield file


def _write_picture(file: Path, report: "Report") -> None:
    from overhop.sidecar.picture import svg

    try:
        file.write_text(svg(report), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--svg {file}: {error.strerror}") from None
