# SPDX-License-Identifier: Apache-2.0
"""`overhop agent` on a node of a lab, a process of its own: plan from a file, hops by its record socket."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from agent.sockets.record import RecordError, read_recording, record_client
from agent.sockets.unix_socket import path_of
from overhop.config import SETTINGS
from overhop.demo.keeping import Keeping
from overhop.demo.outcome import Account
from overhop.lab import Node
from overhop.trace import NodeRecords

CLUSTER = "demo"
"""As rows of the store name it."""
START_TIMEOUT_S = 120.0
"""Compiling and verifying take 3 s; on a busy machine more than ten times as long."""
STOP_TIMEOUT_S = 20.0
LEAVE_TIMEOUT_S = 2.0
"""After a failure or Ctrl-C; then it is killed. A good end takes some 0.2 s, also of one that compiles."""
_LOOK_S = 0.02
_MAX_RECORDING_BYTES = 1 << 30


class DemoError(Exception):
    """The demo cannot go on; what failed, on which object and why. `detail`: the agent's log."""

    def __init__(self, message: str, detail: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.detail = tuple(detail)


@dataclass(frozen=True, slots=True)
class AgentFiles:
    """Where agents have what they need, and what their programs are compiled with."""

    directory: Path
    keeping: Keeping
    program: Mapping[str, object]


@contextmanager
def node_agents(nodes: Sequence[Node], files: AgentFiles) -> Iterator[list["NodeAgent"]]:
    """Agents that start all at once, one per node, and trace; whatever happens they are gone at the end.

    Raises DemoError if one does not start.
    """
    agents: list[NodeAgent] = []
    try:
        for node in nodes:
            agents.append(NodeAgent(node, files))
        for agent in agents:
            agent.await_tracing()
        yield agents
    finally:
        for agent in agents:
            agent.ask_to_stop()
        deadline_s = time.monotonic() + LEAVE_TIMEOUT_S
        for agent in agents:
            agent.remove(deadline_s)


class NodeAgent:
    """The agent of one node; it hears of pods and services that come later."""

    def __init__(self, node: Node, files: AgentFiles) -> None:
        self.node = node
        self._log = files.directory / f"{node.name}.log"
        self._recording = files.directory / f"{node.name}.records"
        plan = files.directory / f"{node.name}.yaml"
        node.keep_plan(plan, {"program": dict(files.program)} if files.program else {})
        options = ("--plan", str(plan), *files.keeping.arguments(node.name), "--cluster", CLUSTER)
        ours = ("--node", node.name, "--metrics-listen", "none", "--config", os.devnull, "--json")
        # -P: nothing of the directory where somebody runs the demo is imported.
        argv = (sys.executable, "-P", "-m", "overhop", "--log-json", "agent", *options, *ours)
        with self._log.open("wb") as log:
            self._process = node.popen(argv, stdout=subprocess.PIPE, stderr=log.fileno(), env=_environment())

    def await_tracing(self) -> None:
        """Return once every tracing point is attached. Raises DemoError if the agent ends before that."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._is_tracing():
            try:
                self._process.wait(_LOOK_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline_s:
                    raise self._failed(f"does not trace after {START_TIMEOUT_S:.0f} s") from None
                continue
            raise self._failed(f"ended at its start with {self._exit()}")

    def start_recording(self) -> None:
        """Every hop from now on is kept. Raises DemoError."""
        self._ask(f"START {self._recording} {_MAX_RECORDING_BYTES}")

    def stop_recording(self) -> NodeRecords:
        """The hops since start_recording, all that were in the ring. Raises DemoError if some were lost."""
        status = self._ask("STOP")
        lost = [f"{count} {name}" for name, count in status.items() if name.startswith("lost_") and count]
        if lost:
            why = f": {reason}" if (reason := status.get("write_error")) else ""
            raise DemoError(f"agent on {self.node.name}: hops were not recorded: {', '.join(lost)}{why}")
        header, records = read_recording(self._recording)
        return NodeRecords(self.node.name, header.boot_id, header.clock, records)

    def remove(self, deadline_s: float) -> None:
        """Wait until the process has ended, kill it at the deadline (time.monotonic), tidy up after it."""
        try:
            self._process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for purpose in ("record", "watch"):
            self._socket(purpose).unlink(missing_ok=True)  # a killed agent leaves them

    def ask_to_stop(self) -> None:
        """SIGTERM, unless it has ended; finish() takes its last words."""
        self._process.terminate()

    def require_running(self) -> None:
        """Raises DemoError if it has ended."""
        if self._process.poll() is not None:
            raise self._failed(f"ended in the middle with {self._exit()}")

    def finish(self) -> Account:
        """Wait for the end after ask_to_stop. Raises DemoError unless the agent ended well."""
        try:
            out, _ = self._process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise self._failed(f"did not end within {STOP_TIMEOUT_S:.0f} s of SIGTERM") from None
        if self._process.returncode != 0:
            raise self._failed(f"ended with {self._exit()}")
        said = json.loads(out)
        return TypeAdapter(Account).validate_python(said)

    def _is_tracing(self) -> bool:
        """It answers on its watch socket only after everything is attached."""
        try:
            record_client(self._socket("watch"), "STATUS", timeout_s=5.0)
        except RecordError:
            return False
        return True

    def _ask(self, command: str) -> dict[str, object]:
        try:
            return record_client(self._socket("record"), command)
        except RecordError as error:
            if self._process.poll() is not None:
                raise self._failed(f"ended in the middle with {self._exit()}") from None
            raise self._failed(str(error)) from None

    def _socket(self, purpose: str) -> Path:
        return path_of(purpose, self.node.netns.inode())

    def _exit(self) -> str:
        code = self._process.returncode
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def _failed(self, what: str) -> DemoError:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return DemoError(f"agent on {self.node.name}: {what}: {complaint(lines)}", lines)


def _environment() -> dict[str, str]:
    """Ours without settings: somebody's OVERHOP_NIC is not meant for the nodes of a lab."""
    settings = {each.variable for each in SETTINGS}
    return {name: value for name, value in os.environ.items() if name not in settings}


def complaint(log: Sequence[str]) -> str:
    """The last line of an agent's log that is more than news, without our name before it."""
    said = [text for line in log if (text := _more_than_news(line))]
    return said[-1] if said else "it did not say why"


def _more_than_news(line: str) -> str:
    """What a line complains of, empty if of nothing: of a log message and reason, another line as it is."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line.removeprefix("overhop: ")
    if not isinstance(entry, dict):
        return line
    if entry.get("level") in ("debug", "info"):
        return ""
    return ": ".join(str(entry[key]) for key in ("msg", "reason") if key in entry)
