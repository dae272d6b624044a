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
    from overhop.sidecar.packets import Tunnels
    from overhop.sidecar.pcap import Frame
    from overhop.sidecar.report import Report
    from overhop.sidecar.tally import Counts, Tally

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """Options of the command."""

    pcap: str | None
    """A file, or STANDARD_INPUT."""
    interface: str | None
    agent: bool
    """What the agent of this network namespace records."""
    seconds: float
    requests: int | None
    window: int
    threshold: float
    plan: Path | None
    svg: Path | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was counted, where, and what makes it partial."""

    counts: "Counts"
    source: str
    notes: tuple[str, ...]


def do_verify(options: VerifyOptions) -> int:
    """Look, count, show; 1 if fewer contexts than the threshold are found within the window.

    Raises UsageError, CommandError, PlanError.
    """
    if [options.pcap is not None, options.interface is not None, options.agent].count(True) != 1:
        raise UsageError("give one of --pcap FILE, --interface NAME and --agent: where requests come from")
    if options.svg is not None and not options.svg.parent.is_dir():
        raise UsageError(f"--svg {options.svg}: there is no directory {options.svg.parent}")
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
    """The result of what passes, of a capture, or of what an agent records."""
    from overhop.sidecar.report import Asked, report_of

    names, spec = _plan(options.plan)
    seen = _of_agent(options) if options.agent else _of_packets(options, spec)
    asked = Asked(seen.source, options.window, options.threshold, seen.notes)
    return report_of(seen.counts, asked, lambda address: names.get(address, ""))


def _plan(file: Path | None) -> "tuple[dict[bytes, str], ProgramSpec]":
    """Names by address, and what the tracer searches for."""
    from bpf.spec import ProgramSpec

    if file is None:
        return {}, ProgramSpec()
    from agent.plan.model import load_plan
    from overhop.sidecar.named import names_of

    plan = load_plan(file)
    return names_of(plan), plan.spec()


def _of_packets(options: VerifyOptions, spec: "ProgramSpec") -> _Seen:
    from overhop.sidecar.packets import Tunnels
    from overhop.sidecar.tally import Tally

    tunnels = Tunnels.of(spec)
    tally = Tally(options.window, tunnels, spec.contexts)
    if options.interface is not None:
        return _listen(options, options.interface, tunnels, tally)
    return _read(options, options.pcap or "", tally)


def _read(options: VerifyOptions, name: str, tally: "Tally") -> _Seen:
    """All of a capture."""
    from overhop.sidecar.pcap import CaptureFile

    shown = "standard input" if name == STANDARD_INPUT else name
    with _opened(name) as file, output.patience(f"reading {shown}"):
        capture = CaptureFile(file, shown)
        try:
            notes = _take(capture.frames(), tally, options.requests)
        except OSError as error:
            raise _unreadable(name, error) from None
    if capture.damage:
        notes.append(f"{shown} {capture.damage}: what comes before that was counted")
    return _Seen(tally.end(), shown, tuple(notes))


def _listen(options: VerifyOptions, interface: str, tunnels: "Tunnels", tally: "Tally") -> _Seen:
    """What passes an interface for a while."""
    from overhop.sidecar.live import Listener

    listener = Listener(interface, tunnels)
    with output.patience(f"listening on {interface} for {_as_long_as(options)}"):
        notes = _take(listener.frames(options.seconds), tally, options.requests)
    if listener.trouble:
        notes.append(listener.trouble)
    return _Seen(tally.end(), f"interface {interface}, by a packet socket", tuple(notes))


def _of_agent(options: VerifyOptions) -> _Seen:
    """What the agent records for a while."""
    from overhop.sidecar.recorded import Recording, counts_of

    recording = Recording.of_the_running_agent(options.window)
    with output.patience(f"the agent records for {_as_long_as(options)}"):
        records = recording.take(options.seconds, options.requests)
    counts = counts_of(records, options.window, recording.window)
    notes = [
        "windows are of headers in the usual form: records have where a context begins, not where it ends"
    ]
    if counts.split:
        notes.append(
            f"{counted(counts.split, 'request')} without a context in the {recording.window} bytes that the "
            "agent searches: not found by any window"
        )
    source = f"the agent's records, which searches {recording.window} bytes"
    return _Seen(counts, source, (*notes, *recording.notes))


def _as_long_as(options: VerifyOptions) -> str:
    most = f" or {counted(options.requests, 'request')}" if options.requests else ""
    return f"{options.seconds:g} s{most}"


def _take(frames: "Generator[Frame, None, None]", tally: "Tally", most_requests: int | None) -> list[str]:
    """Count packets until there are no more, or enough requests, or Ctrl-C; what there is to note of that."""
    try:
        with closing(frames):
            for frame in frames:
                tally.take(frame)
                if most_requests is not None and tally.counts.with_context >= most_requests:
                    break
    except KeyboardInterrupt:
        return ["interrupted: what came before was counted"]
    return []


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STANDARD_INPUT:
        if sys.stdin is None:
            raise UsageError("--pcap -: standard input is closed")
        yield sys.stdin.buffer
        return
    try:
        file = Path(name).open("rb")  # noqa: SIM115  below
    except OSError as error:
        raise _unreadable(name, error) from None
    with file:
        yield file


def _unreadable(name: str, error: OSError) -> UsageError:
    return UsageError(f"--pcap {name}: {error.strerror}")


def _write_picture(file: Path, report: "Report") -> None:
    from overhop.sidecar.picture import svg

    try:
        file.write_text(svg(report), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--svg {file}: {error.strerror}") from None
