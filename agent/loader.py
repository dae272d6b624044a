# SPDX-License-Identifier: Apache-2.0
"""Load the kernel program: a short-lived child compiles it, so that the agent never carries LLVM.

The child (agent/loader_child.py) runs under a Python that has bcc and passes descriptors back over a Unix
socket. No kernel headers are needed: bpf/include stands in for them, linux-libc-dev gives the rest.
"""

import array
import errno
import importlib.util
import itertools
import json
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from agent import capabilities
from bpf import spec as bpf_spec
from bpf import syscall
from bpf.record import Point

PYTHON_VARIABLE: Final = "OVERHOP_BCC_PYTHON"
SYSTEM_PYTHON: Final = "/usr/bin/python3"
ALL_PROGRAMS: Final = tuple(point.program for point in Point)
TIMEOUT_S: Final = 60.0
_CHILD: Final = Path(__file__).with_name("loader_child.py")
_REPLY_BYTES: Final = 64 << 10
_MAX_DESCRIPTORS: Final = 64
_KEPT_TEXT_BYTES: Final = 64 << 10
_VERIFIER_LINES: Final = 20
_COMPILER_LINES: Final = 40


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


@dataclass(slots=True)
class Loaded:
    """Programs and maps in the kernel, by descriptor; they live as long as these (or an attachment) do."""

    programs: dict[str, int]
    maps: dict[str, int]
    verified_insns: dict[str, int]
    compile_s: float
    load_s: float

    def close(self) -> None:
        """Close every descriptor; may be called twice."""
        for descriptors in (self.programs, self.maps):
            while descriptors:
                os.close(descriptors.popitem()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one run of the child gave."""

    reply: dict[str, Any]  # parsed JSON of our own child
    descriptors: list[int]
    text: str


def load(
    spec: bpf_spec.ProgramSpec,
    *,
    programs: Sequence[str] = ALL_PROGRAMS,
    extra_defines: Sequence[str] = (),
    source: Path = bpf_spec.SOURCE,
    python: str | None = None,
) -> Loaded:
    """Compile `source` with the parameters of `spec` and load the named programs.

    `extra_defines` are further compiler options. Raises LoaderError (MissingBcc, CompileError, VerifierError,
    MissingCapability).
    """
    if not source.is_file():
        raise CompileError(f"compile {source}: no such file; is the installation complete?")
    request = {
        "source": str(source.resolve()),
        "kernel_source": str(bpf_spec.INCLUDE.parent),
        "cflags": [*_system_includes(), *spec.defines(), *extra_defines],
        "programs": list(programs),
    }
    outcome = _run_first_with_bcc(_without_debug(request), python)
    if "failed" in outcome.reply:
        outcome = _run_first_with_bcc(request, python)
    if "failed" in outcome.reply:
        raise _failure(outcome, source)
    return _loaded(outcome)


def bcc_pythons(python: str | None = None) -> list[str]:
    """Interpreters to try, in order: the named one alone, else ours if it has bcc, then the system's."""
    named = python or os.environ.get(PYTHON_VARIABLE)
    if named:
        return [named]
    ours = [sys.executable] if importlib.util.find_spec("bcc") else []
    return [*ours, SYSTEM_PYTHON]


def _without_debug(request: dict[str, Any]) -> dict[str, Any]:
    """Compiles a fifth faster (1.76 s of CPU, not 2.15); only messages need source lines."""
    return request | {"cflags": [*request["cflags"], "-g0"]}


def _system_includes() -> tuple[str, ...]:
    return "-I/usr/include", f"-I/usr/include/{platform.machine()}-linux-gnu"


def _run_first_with_bcc(request: dict[str, Any], python: str | None) -> _Outcome:
    problems = []
    for candidate in bcc_pythons(python):
        try:
            outcome = _run_child(candidate, request)
        except OSError as error:
            problems.append(f"{candidate}: {error.strerror}")
            continue
        if outcome.reply.get("failed") != "import":
            return outcome
        problems.append(f"{candidate}: {outcome.reply['reason']}")
    raise MissingBcc(
        f"load: no Python with bcc ({'; '.join(problems)}): install python3-bpfcc, "
        f"or set {PYTHON_VARIABLE} to a Python that has it (PyPI's bcc is another package)"
    )


def _run_child(python: str, request: dict[str, Any]) -> _Outcome:
    """Run the child under one interpreter. Raises OSError if it cannot be started, LoaderError if it dies."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, os.fdopen(os.memfd_create("overhop-loader"), "w+b") as said:
        with theirs:
            child = subprocess.Popen(
                [python, "-I", str(_CHILD), str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is the agent's to handle
            )
        with child:
            try:
                child.communicate(json.dumps(request).encode(), timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                raise LoaderError(
                    f"load: {python} did not finish within {TIMEOUT_S:g} s; is the machine overloaded?",
                    _kept_text(said.fileno()).splitlines()[-_COMPILER_LINES:],
                ) from None
        text = _kept_text(said.fileno())
        message, descriptors = _receive(ours)
        reply = json.loads(message) if message else {"failed": "crash", "status": child.returncode}
        return _Outcome(reply, descriptors, text)


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """The child's message, which waits in the socket after its exit; empty if it sent none."""
    # Not socket.recv_fds: it ignores its flags (Python 3.11), and the descriptors must be close-on-exec.
    room = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
    message, ancillary, _, _ = channel.recvmsg(_REPLY_BYTES, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for _, kind, data in ancillary:
        if kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return message, descriptors.tolist()


def _kept_text(descriptor: int) -> str:
    """Beginning and end of what was written: a verifier log can have many megabytes."""
    size = os.fstat(descriptor).st_size
    kept = os.pread(descriptor, _KEPT_TEXT_BYTES, 0)
    if size > _KEPT_TEXT_BYTES:
        kept += b"\n...\n" + os.pread(descriptor, _KEPT_TEXT_BYTES, max(size - _KEPT_TEXT_BYTES, len(kept)))
    return kept.decode(errors="replace")


def _loaded(outcome: _Outcome) -> Loaded:
    names = outcome.reply["programs"]
    programs = dict(zip(names, outcome.descriptors[: len(names)], strict=True))
    maps = dict(zip(outcome.reply["maps"], outcome.descriptors[len(names) :], strict=True))
    loaded = Loaded(programs, maps, {}, outcome.reply["compile_s"], outcome.reply["load_s"])
    try:
        for name, descriptor in programs.items():
            loaded.verified_insns[name] = syscall.prog_info(descriptor).verified_insns
    except BaseException:
        loaded.close()
        raise
    return loaded


def _failure(outcome: _Outcome, source: Path) -> LoaderError:
    reply = outcome.reply
    text = outcome.text.replace("/virtual/main.c", source.name)
    lines = [line for line in text.splitlines() if line.strip()]
    if reply["failed"] == "load":
        return _load_failure(reply, lines)
    said_error = any("error: " in line for line in lines)  # LLVM ends the process at some of its errors
    if reply["failed"] == "crash" and not said_error:
        return LoaderError(
            f"load {source.name}: the compiling child ended with status {reply['status']} and no answer",
            lines[-_COMPILER_LINES:],
        )
    return _compile_failure(lines, source)


def _load_failure(reply: dict[str, Any], lines: list[str]) -> LoaderError:
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


def _compile_failure(lines: list[str], source: Path) -> LoaderError:
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
        (line for line in lines if "error: " in line), f"{source.name}: no message from the compiler"
    )
    return CompileError(f"compile {first}", lines[:_COMPILER_LINES])


def _verifier_reason(lines: Iterable[str]) -> str:
    """The last line before the statistics says why."""
    before = list(itertools.takewhile(lambda line: not line.startswith("processed "), lines))
    return before[-1] if before else "no reason given"
