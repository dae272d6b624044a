# SPDX-License-Identifier: Apache-2.0
"""An agent on one node of a lab, as a user runs it: plan from a file, records by its record socket."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self

import yaml

from agent.reading.ring import Records
from agent.sockets.record import RecordError, read_recording, record_client
from agent.sockets.unix_socket import RUN_DIRECTORY
from bpf.counters import imbalances as identities
from overhop.lab import LabError, Node

POLL_S = 0.02
START_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 10.0
MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one node has seen of one load, once traffic has stopped."""

    records: Records
    counters: dict[str, int]
    """All of bpf.counters.NAMES, `waiting` and `swapped`: the change, so waiting may be negative."""
    settled: bool
    """The identities hold exactly, and every record of the kernel is in `records`."""


class Tracer:
    """`overhop agent --plan`, for all pods that the node has when it starts; `directory` takes its files."""

    def __init__(self, node: Node, directory: Path, attach: str = "auto") -> None:
        self.node = node
        self._attach = attach
        self._plan = directory / f"{node.netns.name}.yaml"
        self._errors = directory / f"{node.netns.name}.log"
        self._recording = directory / f"{node.netns.name}.records"
        self._counted: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the agent; it is not yet attached."""
        self._plan.write_text(yaml.safe_dump(self.node.plan()))
        agent = (sys.executable, "-m", "overhop", "agent", "--json", "--attach", self._attach)
        argv = (*agent, "--plan", str(self._plan), *apart(self.node, self._plan.parent))
        with self._errors.open("wb") as errors:
            self._process = self.node.popen(argv, stdout=subprocess.PIPE, stderr=errors.fileno())

    def __enter__(self) -> Self:
        """Wait until the agent is attached everywhere."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self._count()
            except RecordError as error:
                if self._running.poll() is not None or time.monotonic() > deadline_s:
                    raise LabError(f"agent on {self.node.name}: {self._complaint()}") from error
                _pause()
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM. LabError if the agent does not end well, or if its last totals do not add up."""
        self._running.terminate()
        out, _ = self._running.communicate(timeout=START_TIMEOUT_S)
        if self._running.returncode != 0:
            raise LabError(f"agent on {self.node.name}: {self._running.returncode}: {self._complaint()}")
        totals = json.loads(out)
        if any(totals["imbalances"].values()):
            raise LabError(f"agent on {self.node.name}: totals do not add up: {totals}")

    def ifindex(self, ifname: str) -> int:
        """Index of an interface of the node."""
        return int(json.loads(self.node.run("ip", "-j", "link", "show", ifname))[0]["ifindex"])

    def mark(self) -> None:
        """Forget what was seen so far: the next settle() counts from here."""
        self._counted = self._settled_counters()[0]
        record_client(self._socket("record"), f"START {self._recording} {MAX_BYTES}")

    def settle(self) -> Snapshot:
        """What was seen since mark(), once all counters add up (or after 10 s, marked so)."""
        now, settled = self._settled_counters()
        record_client(self._socket("record"), "STOP")
        _, records = read_recording(self._recording)
        self._recording.unlink()
        counters = {name: value - self._counted[name] for name, value in now.items()}
        return Snapshot(records, counters, settled and len(records) == counters["records"])

    def _settled_counters(self) -> tuple[dict[str, int], bool]:
        deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
        before: Mapping[str, int] = {}
        while True:
            now = self._count()
            if now == before and not any(imbalances(now).values()):
                return now, True
            if time.monotonic() > deadline_s:
                return now, False
            before = now
            _pause()

    def _count(self) -> dict[str, int]:
        status: dict[str, Any] = record_client(self._socket("watch"), "STATUS")  # parsed JSON
        counters: dict[str, int] = status["counters"]
        return counters

    def _socket(self, purpose: str) -> Path:
        return Path(RUN_DIRECTORY) / f"{purpose}-{self.node.netns.inode()}.sock"

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise LabError(f"agent on {self.node.name}: not started")
        return self._process

    def _complaint(self) -> str:
        lines = self._errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def apart(node: Node, directory: Path) -> tuple[str, ...]:
    """Options of an agent beside others of one machine: its node's name, a store of the test's own."""
    store = ("--store", str(directory / "store"), "--node", node.name)
    return (*store, "--config", os.devnull, "--metrics-listen", "none")


def imbalances(counters: Mapping[str, int]) -> dict[str, int]:
    """Of each identity, with the stamps that a new program left behind as waiting, as the agent does it."""
    return identities({**counters, "waiting": counters["waiting"] + counters["swapped"]})


def _pause() -> None:
    """Between two looks at a condition; every loop around it has a deadline."""
    Event().wait(POLL_S)
