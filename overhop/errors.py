# SPDX-License-Identifier: Apache-2.0
"""The one place where exceptions become one line on standard error and an exit code."""

import errno
import os
import sys
import tempfile
import traceback
from dataclasses import dataclass

from typer import Abort
from typer.exceptions import TyperException

from overhop.text import counted, printable

DONE = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130
OUR_ROOMS = frozenset({"overhop", "insight", "agent", "store", "bpf", "collector"})


class CommandError(Exception):
    """A command cannot go on; the message says what failed, on which object, why and what to do."""

    exit_code = FAILED


class UsageError(CommandError):
    """The command line or a configuration file is wrong."""

    exit_code = USAGE


@dataclass(frozen=True, slots=True)
class Failure:
    """What the user gets to see of an exception."""

    lines: tuple[str, ...]
    """One for each problem; a configuration file can have several."""
    exit_code: int
    detail: tuple[str, ...] = ()
    """What a compiler or the kernel said; shown with --debug."""


def report(error: BaseException, *, debug: bool) -> int:
    """Print what `error` means on standard error, one line unless `debug`; the exit code."""
    failure = explain(error)
    if failure is None:
        failure = _defect(error, debug=debug)
    if debug:
        traceback.print_exception(error)
        for line in failure.detail:
            print(printable(line), file=sys.stderr)
    more = (
        "" if debug or not failure.detail else f" ({counted(len(failure.detail), 'line')} more with --debug)"
    )
    for line in failure.lines:
        print(f"overhop: {line}{more}", file=sys.stderr)
    return failure.exit_code


def explain(error: BaseException) -> Failure | None:
    """The failure that `error` stands for; None for a defect of ours (write_traceback keeps it)."""
    from agent.network.nic import DiscoveryError
    from agent.plan.model import PlanError
    from overhop.sources import ConfigError

    if isinstance(error, ConfigError):
        return Failure(tuple(one_line(str(problem)) for problem in error.problems), USAGE)
    if isinstance(error, CommandError):
        return Failure((one_line(str(error)),), error.exit_code)
    if isinstance(error, PlanError):
        return Failure(tuple(one_line(str(problem)) for problem in error.problems), USAGE)
    if isinstance(error, DiscoveryError):
        return Failure((one_line(str(error)),), USAGE)
    if isinstance(error, TyperException):
        return Failure((_usage_line(error),), USAGE if error.exit_code == USAGE else FAILED)
    if isinstance(error, (KeyboardInterrupt, Abort)):
        return Failure(("interrupted",), INTERRUPTED)
    if _is_ours(error):
        return Failure((one_line(str(error)),), FAILED, tuple(getattr(error, "detail", ())))
    if isinstance(error, OSError):
        return Failure((one_line(_os_error_line(error)),), FAILED)
    return None


def write_traceback(error: BaseException, directory: str | None = None) -> str:
    """Path of a new file, readable by this user only, with the traceback of `error`."""
    handle, path = tempfile.mkstemp(prefix="overhop-traceback-", suffix=".txt", dir=directory)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.writelines(traceback.format_exception(error))
    return path


def one_line(text: str) -> str:
    """`text` without line ends and control characters."""
    return printable("; ".join(line.strip() for line in text.splitlines() if line.strip()))


def _is_ours(error: BaseException) -> bool:
    """An exception type of our rooms is raised on purpose, with a message for people (style rule 18)."""
    return type(error).__module__.partition(".")[0] in OUR_ROOMS


def _defect(error: BaseException, *, debug: bool) -> Failure:
    what = f"internal error: {type(error).__name__}: {one_line(str(error))}"
    if debug:
        return Failure((what,), FAILED)
    return Failure((f"{what}; please report it with {write_traceback(error)}",), FAILED)


def _usage_line(error: TyperException) -> str:
    line = one_line(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{line} (see {context.command_path} --help)" if context is not None else line


def _os_error_line(error: OSError) -> str:
    """A message of our own stands as it is; a bare one gets the object and, for EPERM, what to do."""
    if error.errno is None or error.strerror is None:
        return str(error) or type(error).__name__
    where = f"{error.filename!s}: " if error.filename is not None else ""
    advice = ": run it as root" if error.errno in (errno.EPERM, errno.EACCES) and os.geteuid() != 0 else ""
    return f"{where}{error.strerror}{advice}"
