# SPDX-License-Identifier: Apache-2.0
"""The command line: each command reads its options into a dataclass and calls one `do_x`.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. Results go to standard output, everything else
to standard error.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

import overhop
from overhop import errors, logs
from overhop.commands.agent import AgentOptions, do_agent
from overhop.commands.clean import CleanOptions, do_clean
from overhop.commands.demo import DemoOptions, do_demo
from overhop.commands.doctor import DoctorOptions, do_doctor
from overhop.commands.hops import HopsOptions, do_hops

app = typer.Typer(
    name="overhop",
    help="Tells where a request's time goes inside the container overlay network.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Machine-readable output on standard output.")]


@dataclass(slots=True)
class Edge:
    """What the outermost function needs to know of the command line."""

    debug: bool = False


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"overhop {overhop.__version__}")
        raise typer.Exit


@app.callback()
def overhop_command(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  its callback prints it
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and what the tools said.")] = False,
    log_level: Annotated[str, typer.Option(help=f"One of {', '.join(logs.LEVELS)}.")] = "info",
    log_json: Annotated[bool, typer.Option("--log-json", help="Logs as one JSON object a line.")] = False,
) -> None:
    """Where a request's time goes inside the container overlay network, measured in the kernel."""
    context.obj.debug = debug
    try:
        logs.configure(log_level, as_json=log_json)
    except ValueError as error:
        raise errors.UsageError(str(error)) from error


@app.command()
def agent(
    plan: Annotated[
        Path | None,
        typer.Option(help="YAML plan, reread on change (docs/plan.md); without it every veth of this node."),
    ] = None,
    nic: Annotated[str | None, typer.Option(help="The node's NIC, if there is no plan.")] = None,
    duration_s: Annotated[
        float | None, typer.Option("--duration", min=0.1, help="Stop after this many seconds.")
    ] = None,
    attach: Annotated[
        Literal["auto", "tcx", "clsact"],
        typer.Option(help="How programs are attached; auto: TCX if there is."),
    ] = "auto",
    as_json: JsonFlag = False,
) -> int:
    """Trace this node until stopped: its NIC and its pods' interfaces."""
    return do_agent(AgentOptions(plan, nic, duration_s, attach, as_json))


@app.command()
def hops(
    once: Annotated[bool, typer.Option("--once", help="One interval, then exit.")] = False,
    duration_s: Annotated[
        float | None, typer.Option("--duration", min=0.1, help="Exit after this many seconds.")
    ] = None,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.1, max=60, help="Seconds between views.")
    ] = 2.0,
    as_json: JsonFlag = False,
) -> int:
    """Show the hops of the agent that runs here, live."""
    return do_hops(HopsOptions(once=once, duration_s=duration_s, interval_s=interval_s, as_json=as_json))


@app.command()
def doctor(as_json: JsonFlag = False) -> int:
    """Tell what this node can do, and what to do about the rest."""
    return do_doctor(DoctorOptions(as_json=as_json))


@app.command()
def clean(as_json: JsonFlag = False) -> int:
    """Remove what a killed agent or lab left behind here.

    Refuses while an agent runs in this network namespace. Touches nothing that is not overhop's.
    """
    return do_clean(CleanOptions(as_json=as_json))


@app.command()
def demo(
    requests: Annotated[int, typer.Option(min=1, max=100_000, help="How many requests to send.")] = 400,
    window: Annotated[
        int | None,
        typer.Option(min=64, max=8192, help="Bytes of a request that are searched for its trace context."),
    ] = None,
    as_json: JsonFlag = False,
) -> int:
    """Show hops of real requests over a VXLAN overlay of two nodes."""
    return do_demo(DemoOptions(requests, window, as_json))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. The only place where exceptions become text."""
    edge = Edge()
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        result = typer.main.get_command(app).main(given, "overhop", standalone_mode=False, obj=edge)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away (`overhop hops | head`): nothing is wrong, and nobody is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.FAILED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the edge
        return errors.report(error, debug=edge.debug)
    return result if isinstance(result, int) else errors.DONE
