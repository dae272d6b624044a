# SPDX-License-Identifier: Apache-2.0
"""`overhop agent` as a process on a node of a lab, to be killed, stopped and looked into."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from agent.reading.ring import Records
from agent.sockets.record import read_recording, record_client
from agent.sockets.unix_socket import path_of
from bpf.counters import imbalances as identities
from overhop.lab import LabError, Node
from tests.accept.verdict import until

START_TIMEOUT_S = 90.0
"""A machine that compiles elsewhere takes its time."""
END_TIMEOUT_S = 60.0
MAX_RECORDING_BYTES = 1 << 30
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def apart(node: Node, directory: Path) -> tuple[str, ...]:
    """Options of an agent beside others of one machine: its node's name, a store of the test's own."""
    store = ("--store", str(directory / "store"), "--node", node.name)
    return (*store, "--config", os.devnull, "--metrics-listen", "none")


def imbalances(counters: Mapping[str, int]) -> dict[str, int]:
    """Of each identity, with the stamps that a new program left behind as waiting, as the agent does it."""
    return identities({**counters, "waiting": counters["waiting"] + counters["swapped"]})


class AgentProcess:
    """Started by `with`, or by start(); ended at the latest when the `with` ends.

    `plan` is written to `plan_path`; without it the agent goes by `arguments`. `under`: a command that
    executes it. `start_s`: how long the last start took.
    """

    def __init__(
        self,
        node: Node,
        directory: Path,
        plan: dict[str, Any] | None = None,
        arguments: Sequence[str] = (),
        under: Sequence[str] = (),
    ) -> None:
        self.node = node
        self.plan_path = directory / f"{node.netns.name}.yaml"
        self._log = directory / f"{node.netns.name}.log"
        self._recording = directory / f"{node.netns.name}.records"
        self._arguments = [*apart(node, directory), *arguments]
        self._under = under
        self.start_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        if plan is not None:
            self.write_plan(plan)
            self._arguments += ["--plan", str(self.plan_path)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self._process.kill()
            self._process.communicate()

    def write_plan(self, plan: dict[str, Any] | str) -> None:
        """Replace the plan file in one step."""
        draft = self.plan_path.with_suffix(".draft")
        draft.write_text(plan if isinstance(plan, str) else yaml.safe_dump(plan))
        draft.rename(self.plan_path)

    def start(self) -> float:
        """Seconds until it is attached everywhere. LabError if it does not get there."""
        begun_s = time.monotonic()
        self.launch()
        self.await_tracing()
        self.start_s = time.monotonic() - begun_s
        return self.start_s

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        argv = (
            *self._under,
            sys.executable,
            "-m",
            "overhop",
            "--log-json",
            "agent",
            "--json",
            *self._arguments,
        )
        with self._log.open("wb") as log:
            self._process = self.node.popen(argv, stdout=subprocess.PIPE, stderr=log.fileno())

    def await_tracing(self) -> None:
        """Until it is attached everywhere. LabError if it does not get there."""
        self.await_line("tracing", START_TIMEOUT_S)

    def await_line(self, message: str, timeout_s: float, count: int = 1) -> list[dict[str, Any]]:
        """The log lines with this message, once there are `count`. LabError if there never are."""
        lines = until(
            lambda: self.lines(message), lambda found: len(found) >= count or not self.is_running, timeout_s
        )
        if len(lines) < count:
            raise LabError(f"agent on {self.node.name}: no {message!r}; it says: {self.log_text()[-2000:]}")
        return lines

    def lines(self, message: str = "") -> list[dict[str, Any]]:
        """The log so far, or what has this message."""
        whole = [line for line in self.log_text().splitlines(keepends=True) if line.endswith("\n")]
        parsed = [json.loads(line) if line.startswith("{") else {"msg": line.strip()} for line in whole]
        return [line for line in parsed if not message or line["msg"] == message]

    def log_text(self) -> str:
        """Everything on its standard error."""
        return self._log.read_text(errors="replace")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process; LabError if it was never started."""
        if self._process is None:
            raise LabError(f"agent on {self.node.name}: not started")
        return self._process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.communicate(timeout=END_TIMEOUT_S)

    def terminate(self) -> dict[str, Any]:
        """SIGTERM; its last words: counters and imbalances. LabError if it did not end with 0."""
        self.process.terminate()
        out, _ = self.process.communicate(timeout=END_TIMEOUT_S)
        if self.process.returncode != 0:
            raise LabError(f"agent on {self.node.name}: {self.process.returncode}: {self.log_text()[-2000:]}")
        totals: dict[str, Any] = json.loads(out)  # our own agent's JSON
        return totals

    def pause(self) -> None:
        """SIGSTOP: it reads nothing any more."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def counters(self) -> dict[str, int]:
        """Its totals, by the watch socket."""
        status: dict[str, Any] = record_client(self.socket("watch"), "STATUS")
        counters: dict[str, int] = status["counters"]
        return counters

    def settled_counters(self, timeout_s: float = 10.0) -> dict[str, int]:
        """Totals whose identities hold, or those at the deadline."""
        return until(self.counters, lambda found: not any(imbalances(found).values()), timeout_s)

    def await_records(self, more: int, timeout_s: float = 30.0) -> int:
        """Wait for that many more hops; how many more there were."""
        begun = self.counters()["records"]
        return until(lambda: self.counters()["records"] - begun, lambda found: found >= more, timeout_s)

    def start_recording(self) -> None:
        """Write every record to a file from now on."""
        record_client(self.socket("record"), f"START {self._recording} {MAX_RECORDING_BYTES}")

    def recorded(self) -> Records:
        """End the recording; what is in it."""
        record_client(self.socket("record"), "STOP")
        _, records = read_recording(self._recording)
        self._recording.unlink()
        return records

    def socket(self, purpose: str) -> Path:
        """Path of its record or watch socket."""
        return path_of(purpose, self.node.netns.inode())

    def descriptors(self) -> int:
        """How many file descriptors it has."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss_mb(self) -> float:
        """Resident memory in MB (10^6 bytes)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def peak_rss_mb(self) -> float:
        """The most that it ever had resident, in MB (10^6 bytes)."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return int(kib) * 1024 / 1e6

    def cpu_s(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
