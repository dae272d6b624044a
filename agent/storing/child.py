# SPDX-License-Identifier: Apache-2.0
"""A process beside the agent: started, started again when it dies, ended with the agent.

The agent appends rows whether there is one or not; the store's writer makes Parquet of them (docs/store.md),
the forwarder sends them to a server (docs/spool.md).
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

_log = logging.getLogger(__name__)

ALREADY_WRITTEN = 3
"""Exit code where another process does the work already and holds the lock."""
LOOK_AGAIN_S = 30.0
"""How long that one is left alone until it is looked whether it is still there."""
BACK_OFF_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Waits after deaths that follow one another."""
SETTLED_S = 10.0
"""A child that lived this long holds the lock."""
STEADY_S = 120.0
"""A child that lived this long has no back-off any more."""
END_TIMEOUT_S = 5.0
WRITER = "the store's writer"
_ROOT = Path(__file__).resolve().parents[2]
"""Where our packages are."""
_SAID_BYTES = 65536
_LINE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """Who works: our child `pid` (0: none), or another agent's (`elsewhere`); `deaths` of ours."""

    pid: int
    elsewhere: bool
    deaths: int


NO_CHILD = ChildStatus(0, elsewhere=False, deaths=0)


class Process(Protocol):
    """A child: what is needed of subprocess.Popen."""

    pid: int

    def poll(self) -> int | None:
        """Its exit code; None: it runs."""
        ...

    def said(self) -> str:
        """What it wrote to standard error since the last call, without waiting."""
        ...

    def told(self) -> str:
        """What it wrote to standard output since the last call, without waiting; empty: nobody listens."""
        ...

    def end(self, timeout_s: float) -> None:
        """Ask it to end, wait, then kill it."""
        ...

    def close(self) -> None:
        """Let go of what is left of an ended one."""
        ...


def delay_s(exit_code: int, deaths_in_a_row: int) -> float:
    """How long to wait before the next start, after that many deaths (1: the first)."""
    if exit_code == ALREADY_WRITTEN:
        return LOOK_AGAIN_S
    return BACK_OFF_S[min(deaths_in_a_row, len(BACK_OFF_S)) - 1]


class Supervisor:
    """Keeps one child running. `start` makes it; poll() it often, it never waits.

    `what` is how messages call it; `hear` gets each line of its standard output.
    """

    def __init__(
        self,
        start: Callable[[], Process],
        what: str = WRITER,
        hear: Callable[[str], None] = lambda _: None,
        end_timeout_s: float = END_TIMEOUT_S,
    ) -> None:
        self._start = start
        self._what, self._hear, self._end_timeout_s = what, hear, end_timeout_s
        self._process: Process | None = None
        self._elsewhere = False
        self._deaths = 0
        self._deaths_in_a_row = 0
        self._started_ns = 0
        self._next_start_ns = 0
        self._unfinished = ""
        self._last_line = ""
        """A child that is started again and again says the same: once is enough."""
        self._untold = ""

    @property
    def status(self) -> ChildStatus:
        """Of this moment."""
        return ChildStatus(self._process.pid if self._process else 0, self._elsewhere, self._deaths)

    def poll(self, now_ns: int) -> None:
        """Start the child if it is due, notice its end. `now_ns`: CLOCK_MONOTONIC."""
        if self._process is None:
            if now_ns >= self._next_start_ns:
                self._begin(now_ns)
            return
        self._pass_on(self._process.said())
        self._listen(self._process.told())
        code = self._process.poll()
        if code is not None:
            self._forget(self._process)
            self._ended(code, now_ns)
        elif self._elsewhere and now_ns - self._started_ns >= int(SETTLED_S * 1e9):
            self._elsewhere = False
            _log.info(f"the other one is gone, {self._what} works now")

    def close(self) -> None:
        """End the child; returns within about the time that it was given."""
        if self._process is not None:
            self._process.end(self._end_timeout_s)
            self._forget(self._process)

    def _forget(self, process: Process) -> None:
        self._pass_on(process.said() + "\n")
        self._listen(process.told())
        self._untold = ""
        process.close()
        self._process = None

    def _begin(self, now_ns: int) -> None:
        self._started_ns = now_ns
        try:
            self._process = self._start()
        except OSError as error:
            _log.error(f"cannot start {self._what}", extra={"reason": str(error)})
            self._wait_after(1, now_ns)

    def _ended(self, code: int, now_ns: int) -> None:
        if code == ALREADY_WRITTEN:
            if not self._elsewhere:
                _log.info(
                    f"another process works instead of {self._what}", extra={"look_again_s": LOOK_AGAIN_S}
                )
            self._elsewhere = True
            self._next_start_ns = now_ns + int(delay_s(code, 0) * 1e9)
            return
        self._elsewhere = False
        self._wait_after(code, now_ns)

    def _wait_after(self, code: int, now_ns: int) -> None:
        self._deaths += 1
        if now_ns - self._started_ns >= int(STEADY_S * 1e9):
            self._deaths_in_a_row = 0
        self._deaths_in_a_row += 1
        wait_s = delay_s(code, self._deaths_in_a_row)
        self._next_start_ns = now_ns + int(wait_s * 1e9)
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        _log.warning(f"{self._what} ended, it is started again", extra={"how": how, "in_s": wait_s})

    def _pass_on(self, said: str) -> None:
        *lines, self._unfinished = (self._unfinished + said).split("\n")
        self._unfinished = self._unfinished[-_LINE_BYTES:]
        for line in filter(None, map(str.strip, lines)):
            if line != self._last_line:
                level = logging.ERROR if line.startswith("ERROR ") else logging.WARNING
                _log.log(level, f"{self._what} says", extra={"line": line[:_LINE_BYTES]})
            self._last_line = line

    def _listen(self, told: str) -> None:
        *lines, self._untold = (self._untold + told).split("\n")
        for line in lines:
            self._hear(line)


class ConfinedProcess:
    """A module run by confined.py: no capability that it does not need, no descriptor, ends with us.

    `listens`: to its standard output. `may_finish`: SIGTERM waits until the module unblocks it, so that one
    which still starts does not end without its work. Raises OSError if it cannot be started.
    """

    def __init__(
        self, module: str, arguments: Sequence[str], *, listens: bool = False, may_finish: bool = False
    ) -> None:
        # -P: nothing is imported from wherever the agent was started.
        argv = [sys.executable, "-P", "-m", "agent.storing.confined", str(os.getpid()), module, *arguments]
        paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        with _sigterm_blocked() if may_finish else nullcontext():
            self._process = subprocess.Popen(
                argv,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if listens else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                process_group=0,  # Ctrl-C is the agent's to handle
            )
        assert self._process.stderr is not None
        self._stderr: IO[bytes] = self._process.stderr
        self._stdout: IO[bytes] | None = self._process.stdout
        for stream in filter(None, (self._stderr, self._stdout)):
            os.set_blocking(stream.fileno(), False)
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit code; None: it runs."""
        return self._process.poll()

    def said(self) -> str:
        """What it wrote to standard error since the last call."""
        return _read(self._stderr)

    def told(self) -> str:
        """What it wrote to standard output since the last call."""
        return "" if self._stdout is None else _read(self._stdout)

    def end(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _log.warning("a process does not end: killed", extra={"child": self.pid, "after_s": timeout_s})
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """Close our ends of its pipes."""
        for stream in filter(None, (self._stderr, self._stdout)):
            stream.close()


@contextmanager
def _sigterm_blocked() -> Iterator[None]:
    """Children inherit it (man 7 signal)."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _read(stream: IO[bytes]) -> str:
    try:
        return os.read(stream.fileno(), _SAID_BYTES).decode(errors="replace")
    except BlockingIOError:
        return ""


def writer_of(store: Path) -> Supervisor:
    """The supervisor of the writer of the store at `store`; nothing runs before poll()."""
    return Supervisor(lambda: ConfinedProcess("store.writer", [str(store)]))
