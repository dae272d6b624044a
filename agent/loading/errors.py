# SPDX-License-Identifier: Apache-2.0
"""What can go wrong when programs are compiled and loaded, in one line each, with what the tools said."""

import errno
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from agent import capabilities

COMPILER_LINES: Final = 40
_VERIFIER_LINES: Final = 20


class LoaderError(Exception):
    """Compiling or loading failed: one clear line, and what the tools said in `detail`."""

    def __init__(self, line: str, detail: Sequence[str] = ()) -> None:
        super().__init__(line)
        self.detail = tuple(detail)


class MissingBcc(LoaderError):  # noqa: N818 (says what is missing)
    """No Python with bcc was found."""


class CompileError(LoaderError):
    """The compiler refused the source; `detail` has its messages."""


class VerifierError(LoaderError):
    """The kernel refused a program; `detail` has the verifier's last lines."""


class MissingCapability(LoaderError):  # noqa: N818 (says what is missing)
    """The kernel refused for lack of a right."""


class LoadStopped(LoaderError):  # noqa: N818 (says what happened)
    """The caller wanted no programs any more."""


def failure(reply: Mapping[str, Any], text: str, source_name: str) -> LoaderError:
    """What the child's answer (agent/loading/child.py) and what was said on its standard error mean."""
    lines = [line for line in text.replace("/virtual/main.c", source_name).splitlines() if line.strip()]
    if reply["failed"] == "load":
        return _load_failure(reply, lines)
    said_error = any("error: " in line for line in lines)  # LLVM ends the process at some of its errors
    if reply["failed"] == "crash" and not said_error:
        return LoaderError(
            f"load {source_name}: the compiling child ended with status {reply['status']} and no answer",
            lines[-COMPILER_LINES:],
        )
    return _compile_failure(lines, source_name)


def _load_failure(reply: Mapping[str, Any], lines: list[str]) -> LoaderError:
    what = f"load {reply['program']}"
    if reply["errno"] == 0:
        return LoaderError(f"{what}: {reply['reason']}")
    if reply["errno"] == errno.EPERM:
        return MissingCapability(f"{what}: EPERM: {capabilities.advice()}", lines[-3:])
    name = errno.errorcode.get(reply["errno"], str(reply["errno"]))
    if not any(line.startswith("processed ") for line in lines):
        return LoaderError(f"{what}: {name}: {reply['reason']}", lines[-_VERIFIER_LINES:])
    reason = _verifier_reason(lines)
    if reply["errno"] == errno.EACCES and capabilities.missing():
        return MissingCapability(
            f"{what}: {name}: {reason}: {capabilities.advice()}", lines[-_VERIFIER_LINES:]
        )
    return VerifierError(f"{what}: {name}: the kernel's verifier says: {reason}", lines[-_VERIFIER_LINES:])


def _compile_failure(lines: list[str], source_name: str) -> LoaderError:
    refused_map = next(
        (m for line in lines if (m := re.search(r"could not open bpf map: (\w+)", line))), None
    )
    if refused_map:
        refusal = refused_map.string.rpartition("error: ")[2]
        if "not permitted" in refusal:
            return MissingCapability(
                f"create map {refused_map[1]}: EPERM: {capabilities.advice()}", lines[-3:]
            )
        return LoaderError(f"create map {refused_map[1]}: {refusal}", lines[-3:])
    first = next(
        (line for line in lines if "error: " in line), f"{source_name}: no message from the compiler"
    )
    return CompileError(f"compile {first}", lines[:COMPILER_LINES])


def _verifier_reason(lines: Iterable[str]) -> str:
    """The last line before the statistics says why."""
    before = list(itertools.takewhile(lambda line: not line.startswith("processed "), lines))
    return before[-1] if before else "no reason given"
