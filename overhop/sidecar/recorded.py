# SPDX-License-Identifier: Apache-2.0
"""The running agent's own records in place of packets: what the tracer itself found, and where.

A record has where a context begins but not where it ends. Windows are those of the usual form: `name: value`
with one blank, the longest value of its kind, `x-b3-spanid` right behind `x-b3-traceid`.
"""

import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent.sockets import unix_socket
from agent.sockets.record import RecordError, read_recording, record_client
from agent.sockets.recording import Records
from bpf.record import ContextKind, Quality
from overhop.errors import CommandError, UsageError
from overhop.running import read_facts, watch_path
from overhop.sidecar.tally import Counts, Outcome, Sender

FIELD_BYTES = {
    ContextKind.W3C: len("traceparent: ") + 55 + 1,
    ContextKind.B3_SINGLE: len("b3: ") + 68 + 1,
    ContextKind.B3_MULTI: len("x-b3-traceid: ") + 32 + 2 + len("x-b3-spanid: ") + 16 + 1,
}
"""From the first byte of the name to the last that the search needs."""
MOST_RECORDS = 1_000_000
_RECORD_BYTES = 128
_LOOK_S = 0.1
_MAPPED = bytes(10) + b"\xff\xff"


@dataclass(slots=True)
class Recording:
    """What the agent of this network namespace records from now on, for a while."""

    window: int
    """The agent's."""
    notes: list[str] = field(default_factory=list)
    """What is missing."""

    @classmethod
    def of_the_running_agent(cls, asked: int) -> "Recording":
        """Raises UsageError if the agent searches less than the window asked for; CommandError."""
        found = read_facts(watch_path()).window
        if not found:
            raise CommandError("the agent that runs here is of an older overhop: it does not tell its window")
        if asked > found:
            raise UsageError(
                f"--window {asked}: the agent searches {found} bytes only, so that its records do not tell"
            )
        return cls(found)

    def take(self, seconds: float, requests: int | None) -> Records:
        """All records until the time is over, there are so many, or Ctrl-C. Raises CommandError."""
        with tempfile.TemporaryDirectory(prefix="overhop-verify-") as directory:
            file = Path(directory) / "records"
            bound = _RECORD_BYTES * (MOST_RECORDS + 8)
            _ask(f"START {file} {bound}")
            try:
                _await(time.monotonic() + seconds, requests)
            except KeyboardInterrupt:
                self.notes.append("interrupted: what came before was counted")
            finally:
                status = _ask("STOP")
            lost = sum(int(str(status[name])) for name in ("lost_bound", "lost_queue", "lost_disk"))
            if lost:
                self.notes.append(f"{lost:,} records more were not kept")
            return _read(file)


def _await(deadline_s: float, requests: int | None) -> None:
    while time.monotonic() < deadline_s:
        time.sleep(min(_LOOK_S, max(0.0, deadline_s - time.monotonic())))
        if requests is not None and int(str(_ask("STATUS")["records"])) >= requests:
            return


def _ask(command: str) -> dict[str, object]:
    try:
        return record_client(unix_socket.default_path("record"), command)
    except RecordError as error:
        raise CommandError(str(error)) from None


def _read(file: Path) -> Records:
    if not file.exists():
        raise CommandError(
            f"recording {file}: it is not here: the agent has files of its own: run this in its container"
        )
    return read_recording(file)[1]


def counts_of(records: Records, asked: int, agent_window: int) -> Counts:
    """Records as if their requests had been seen in a capture.

    A request with more header than the agent's window, and no context within it, counts as one whose context
    no window finds. A sender's requests are relocated where the window that was asked for finds them.
    """
    counts = Counts()
    is_repeated = records["quality"] & Quality.RETRANSMIT != 0
    counts.requests[Outcome.COPY] = int(is_repeated.sum())
    kept = records[~is_repeated]
    kinds = kept["encap_context"] >> 4
    beyond = (kinds == ContextKind.NONE) & (kept["quality"] & Quality.WINDOW_EXCEEDED != 0)
    bad = (kinds == ContextKind.NONE) & ~beyond & (kept["quality"] & Quality.BAD_CONTEXT != 0)
    counts.requests[Outcome.BAD_CONTEXT] = int(bad.sum())
    counts.requests[Outcome.NO_CONTEXT] = int(((kinds == ContextKind.NONE) & ~beyond & ~bad).sum())
    counts.requests[Outcome.CONTEXT] = int(((kinds != ContextKind.NONE) | beyond).sum())
    counts.split = int(beyond.sum())
    for (source, _, _), count in _counted(kept[beyond]).items():
        counts.senders.setdefault(source, Sender()).requests += count
    for (source, kind, offset), count in _counted(kept[kinds != ContextKind.NONE]).items():
        needed = min(offset + FIELD_BYTES[ContextKind(kind)], agent_window)
        counts.kinds[ContextKind(kind).label] += count
        counts.offsets[offset] += count
        counts.windows[needed] += count
        sender = counts.senders.setdefault(source, Sender())
        is_found = needed <= asked
        sender.requests += count
        sender.found += count * is_found
        sender.relocated += count * is_found
        sender.offsets[offset] += count
    counts.requests = +counts.requests
    return counts


def _counted(records: Records) -> Counter[tuple[bytes, int, int]]:
    """How many records have the same source, context kind and offset."""
    sources = (_plain(each.tobytes()) for each in np.ascontiguousarray(records["src"]))
    kinds = (records["encap_context"] >> 4).tolist()
    return Counter(zip(sources, kinds, records["context_offset"].tolist(), strict=True))


def _plain(address: bytes) -> bytes:
    """4 bytes for IPv4."""
    return address[12:] if address.startswith(_MAPPED) else address
