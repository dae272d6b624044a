# SPDX-License-Identifier: Apache-2.0
"""What agent and writer cost when all is on: names, summaries, samples, store, metrics (design §14)."""

import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.accept.budgets import RSS_MAX_MB, cpu_share, first_hop, send
from tests.accept.lifecycle import Stage, stage
from tests.accept.store_memory import fill_hour, peak_bytes
from tests.accept.store_soak import StoringAgent
from tests.accept.verdict import Verdict, until

WRITER_RSS_MAX_MB = 130.0
IDLE_S = 5.0
REQUESTS = 200_000
COMPACTED_S = 400.0
"""Segments wait five minutes for others."""
SAMPLES = 3_000_000


def store_cost() -> Verdict:
    """An agent that stores, at rest and through so many requests, and its writer once it made Parquet."""
    verdict = Verdict("cost of an agent that stores")
    with stage() as place, ExitStack() as stack:
        store = place.directory / "store"
        agent = StoringAgent(place.node, place.directory, store, metrics="127.0.0.1:0")
        stack.callback(agent.process.__exit__, None, None, None)
        agent.start()
        _measure(verdict, place, agent, store)
        agent.end()
        first_hop(verdict, place, ("--store", str(place.directory / "others")))
    return verdict


def _measure(verdict: Verdict, place: Stage, agent: StoringAgent, store: Path) -> None:
    process = agent.process
    idle_share = cpu_share(process, IDLE_S)
    verdict.numbers["idle_cpu_share"] = round(idle_share, 4)
    verdict.at_most("rss_mb_at_rest", process.rss_mb(), RSS_MAX_MB)
    begun_s, cpu_s = time.monotonic(), process.cpu_s()
    result = send(place, REQUESTS)
    until(lambda: process.counters()["records"], lambda found: found >= REQUESTS, 10.0)
    used_s = process.cpu_s() - cpu_s - idle_share * (time.monotonic() - begun_s)
    verdict.numbers["requests_per_s"] = round(REQUESTS / result.elapsed_s)
    verdict.numbers["cpu_s_per_100k_beyond_idle"] = round(used_s / REQUESTS * 1e5, 4)
    verdict.at_most("rss_mb_after", process.rss_mb(), RSS_MAX_MB)
    until(lambda: any(store.rglob("*.parquet")), bool, COMPACTED_S)
    verdict.equal("Parquet written", any(store.rglob("*.parquet")), True)
    verdict.numbers["writer_rss_mb"] = round(_peak_mb(agent.writer_pid()), 1)
    verdict.at_most("rss_mb_peak", _peak_mb(process.pid), RSS_MAX_MB)


def writer_memory() -> Verdict:
    """The writer with an hour of three million samples."""
    verdict = Verdict("memory of the writer")
    with TemporaryDirectory(prefix="overhop-accept-") as name:
        fill_hour(Path(name) / "store", SAMPLES)
        verdict.at_most("writer_rss_mb_peak", peak_bytes(Path(name) / "store") / 1e6, WRITER_RSS_MAX_MB)
    return verdict


def _peak_mb(pid: int) -> float:
    """The most resident memory that a process ever had, in MB (10^6 bytes)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
