# SPDX-License-Identifier: Apache-2.0
"""The store's disk fills up and becomes free again, while requests go on (issue 4)."""

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.sockets.record import record_client
from store.reading import RowReader
from store.schema import HOP_SAMPLE, TABLES
from tests.accept import store_look
from tests.accept.agents import AgentProcess
from tests.accept.lifecycle import stage
from tests.accept.verdict import Verdict, until

RATE_HZ = 950.0
"""Of up to 1,000 hops a second every one is kept."""
FULL_S = 600
"""8 MiB wait in memory, of which a sample takes some 20 bytes: rows fall out after seven to nine minutes."""
TIMEOUT_S = 60.0
DISK_BYTES = 64 << 20


def store_disk() -> Verdict:
    """Full for minutes: the agent goes on, says so once, counts what it drops, recovers."""
    verdict = Verdict("a full disk")
    with stage() as place, small_disk(place.directory / "disk") as disk:
        arguments = ("--store", str(disk / "store"), "--node", "n1")
        with AgentProcess(place.node, place.directory, place.node.plan(), arguments) as agent:
            place.client.http(place.server, requests=1_000, connections=4).require_ok()
            until(lambda: _output(agent)["totals"]["samples"], lambda count: count > 0, TIMEOUT_S)
            fill(disk / "filler")
            requests = int(RATE_HZ) * FULL_S
            place.client.http(
                place.server, requests=requests, connections=16, rate_hz=RATE_HZ, timeout_s=FULL_S + TIMEOUT_S
            ).require_ok()
            facts = _output(agent)["store"]
            verdict.numbers |= {"waiting": facts["waiting"], "dropped": facts["dropped"]}
            verdict.equal("says why", "No space left on device" in (facts["error"] or ""), True)
            verdict.equal("rows dropped and counted", facts["dropped"].get("hop_sample", 0) > 0, True)
            (disk / "filler").unlink()
            until(lambda: _output(agent)["store"]["error"], lambda error: error is None, TIMEOUT_S)
            place.client.http(place.server, requests=1_000, connections=4).require_ok()
            totals = agent.terminate()
            for line in ("rows cannot be stored, they wait in memory", "rows are stored again"):
                verdict.equal(f"says {line!r}", len(agent.lines(line)), 1)
        verdict.equal("hops", totals["counters"]["records"], requests + 2_000)
        _check_rows(verdict, disk / "store", totals)
    return verdict


def _check_rows(verdict: Verdict, store: Path, totals: dict[str, Any]) -> None:  # parsed JSON
    """What was stored is there, and with what was dropped it is everything that was to be stored."""
    found = store_look.look(store)
    stored = totals["stored"]
    verdict.equal("unreadable", found.problems, [])
    for table in TABLES:
        verdict.equal(f"rows of {table.name}", found.rows[table.name], stored["rows"].get(table.name, 0))
    made = stored["rows"]["hop_sample"] + stored["dropped"].get("hop_sample", 0)
    verdict.equal("samples stored and dropped", made, stored["samples"])
    verdict.equal("twice", {name: n for name, n in found.twice.items() if n}, {})
    reader = RowReader(store)
    verdict.numbers["samples stored"] = len(store_look.rows_of(reader, HOP_SAMPLE)["time"])
    reader.close()


@contextmanager
def small_disk(directory: Path, size_bytes: int = DISK_BYTES) -> Iterator[Path]:
    """A file system of its own."""
    directory.mkdir()
    options = f"size={size_bytes},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "overhop-accept", str(directory)], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def _output(agent: AgentProcess) -> dict[str, Any]:
    status: dict[str, Any] = record_client(agent.socket("watch"), "STATUS")
    output: dict[str, Any] = status["output"]
    return output
