# SPDX-License-Identifier: Apache-2.0
"""Load the kernel program: a short-lived child compiles it, so that the agent never carries LLVM.

The child (agent/loading/child.py) runs under a Python that has bcc and passes descriptors back over a Unix
socket. No kernel headers are needed: bpf/include stands in for them, linux-libc-dev gives the rest.
What was compiled once is loaded from a cache (agent/loading/cache.py), without child and compiler.
"""

import array
import hashlib
import importlib.util
import json
import logging
import os
import platform
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from agent.loading.cache import ProgramCache
from agent.loading.errors import (
    COMPILER_LINES,
    CompileError,
    LoaderError,
    LoadStopped,
    MissingBcc,
    MissingCapability,
    VerifierError,
    failure,
)
from agent.loading.loaded import Loaded, bytecode_of, load_bytecode
from bpf import spec as bpf_spec
from bpf.point import Point

__all__ = [
    "CompileError",
    "LoadStopped",
    "Loaded",
    "LoaderError",
    "MissingBcc",
    "MissingCapability",
    "VerifierError",
    "bcc_pythons",
    "load",
]

PYTHON_VARIABLE: Final = "OVERHOP_BCC_PYTHON"
SYSTEM_PYTHON: Final = "/usr/bin/python3"
ALL_PROGRAMS: Final = tuple(point.program for point in Point)
TIMEOUT_S: Final = 60.0
_CHILD: Final = Path(__file__).with_name("child.py")
_REPLY_BYTES: Final = 64 << 10
_MAX_DESCRIPTORS: Final = 64
_KEPT_TEXT_BYTES: Final = 64 << 10
_LOOK_S: Final = 0.1
"""How often whoever waits for the child asks whether to go on."""
_log = logging.getLogger(__name__)


def _never() -> bool:
    return False


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
    cache: ProgramCache | None = None,
    stop: Callable[[], bool] = _never,
) -> Loaded:
    """Load the named programs of `source`, compiled with the parameters of `spec`, or once compiled so.

    `extra_defines` are further compiler options. When `stop()` turns true the work ends within a second.
    Raises LoaderError (MissingBcc, CompileError, VerifierError, MissingCapability, LoadStopped).
    """
    if not source.is_file():
        raise CompileError(f"compile {source}: no such file; is the installation complete?")
    request = {
        "source": str(source.resolve()),
        "kernel_source": str(bpf_spec.INCLUDE.parent),
        "cflags": [*_system_includes(), *spec.defines(), *extra_defines],
        "programs": list(programs),
    }
    key = _key(request, bcc_pythons(python))
    kept = cache.find(key) if cache is not None else None
    if kept is not None:
        try:
            return load_bytecode(kept, stop)
        except (OSError, ValueError) as error:  # compiling will say why, if it is not the cache's fault
            _log.debug("compiled programs do not load", extra={"reason": str(error)})
    outcome = _run_first_with_bcc(_without_debug(request), python, stop)
    if "failed" in outcome.reply:
        outcome = _run_first_with_bcc(request, python, stop)
    if "failed" in outcome.reply:
        raise failure(outcome.reply, outcome.text, source.name)
    return _loaded(outcome, key, cache)


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


def _key(request: dict[str, Any], pythons: Sequence[str]) -> str:
    """Everything that decides what the compiler makes; of itself the cache knows the files."""
    headers = sorted(bpf_spec.INCLUDE.rglob("*.h"))
    decides = [
        hashlib.sha256(Path(request["source"]).read_bytes()).hexdigest(),
        {str(path.relative_to(bpf_spec.INCLUDE)): path.read_text() for path in headers},
        request["cflags"],
        request["programs"],
        list(pythons),
        os.uname().release,
    ]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def _run_first_with_bcc(request: dict[str, Any], python: str | None, stop: Callable[[], bool]) -> _Outcome:
    problems = []
    for candidate in bcc_pythons(python):
        try:
            outcome = _run_child(candidate, request, stop)
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


def _run_child(python: str, request: dict[str, Any], stop: Callable[[], bool]) -> _Outcome:
    """Run the child under one interpreter. Raises OSError if it cannot be started, LoaderError if it dies."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, os.fdopen(os.memfd_create("overhop-loader"), "w+b") as said:
        with theirs, os.fdopen(os.memfd_create("overhop-request"), "w+b") as asked:
            asked.write(json.dumps(request).encode())
            asked.seek(0)
            child = subprocess.Popen(
                [python, "-I", str(_CHILD), str(theirs.fileno())],
                stdin=asked,
                stdout=said,
                stderr=said,
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is the agent's to handle
            )
        with child:
            try:
                _await_end(child, python, said.fileno(), stop)
            except BaseException:
                os.killpg(child.pid, signal.SIGKILL)
                raise
        text = _kept_text(said.fileno())
        message, descriptors = _receive(ours)
        reply = json.loads(message) if message else {"failed": "crash", "status": child.returncode}
        return _Outcome(reply, descriptors, text)


def _await_end(child: subprocess.Popen[bytes], python: str, said: int, stop: Callable[[], bool]) -> None:
    """Raises LoadStopped, or LoaderError when it takes longer than TIMEOUT_S."""
    deadline_s = time.monotonic() + TIMEOUT_S
    waiter = select.poll()
    ended = os.pidfd_open(child.pid)
    try:
        waiter.register(ended, select.POLLIN)
        while not waiter.poll(_LOOK_S * 1e3):
            if stop():
                raise LoadStopped("load: stopped while compiling")
            if time.monotonic() > deadline_s:
                raise LoaderError(
                    f"load: {python} did not finish within {TIMEOUT_S:g} s; is the machine overloaded?",
                    _kept_text(said).splitlines()[-COMPILER_LINES:],
                )
    finally:
        os.close(ended)


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


def _loaded(outcome: _Outcome, key: str, cache: ProgramCache | None) -> Loaded:
    reply = outcome.reply
    *held, code = outcome.descriptors
    count = len(reply["programs"])
    programs = dict(zip(reply["programs"], held[:count], strict=True))
    maps = dict(zip(reply["maps"], held[count:], strict=True))
    loaded = Loaded(programs, maps, {}, reply["compile_s"], reply["load_s"])
    with os.fdopen(code, "rb") as instructions:
        loaded.count_insns()
        if cache is not None:
            _keep(cache, key, reply, instructions, loaded)
    return loaded


def _keep(
    cache: ProgramCache, key: str, reply: dict[str, Any], instructions: BinaryIO, loaded: Loaded
) -> None:
    """For the next start; this one goes on without."""
    instructions.seek(0)
    codes = [instructions.read(size) for size in reply["code_bytes"]]
    try:
        bytecode = bytecode_of(loaded, codes, reply["map_numbers"], reply["license"])
    except (OSError, ValueError) as error:
        _log.debug("programs not kept", extra={"reason": str(error)})
        return
    cache.keep(key, bytecode, reply["toolchain"])
