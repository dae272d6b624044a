# SPDX-License-Identifier: Apache-2.0
"""What an agent costs its node (design §14): memory, CPU per hop and at rest, time to the first hop."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

from agent.loading.cache import DIRECTORY_VARIABLE
from overhop.lab import HttpResult
from overhop.running import views
from tests.accept.agents import AgentProcess
from tests.accept.lifecycle import Stage
from tests.accept.verdict import Verdict, until

RSS_MAX_MB = 80.0
CPU_PER_100K_MAX_S = 0.02
FIRST_HOP_MAX_S = 3.0
FIRST_HOP_CACHED_MAX_S = 1.5
IDLE_S = 10.0
FIRST_HOPS = 10


def budgets(place: Stage, requests: int) -> Verdict:
    """An agent at rest, then through so many requests."""
    verdict = Verdict("budgets")
    with AgentProcess(place.node, place.directory, plan=place.node.plan()) as agent:
        idle_share = cpu_share(agent, IDLE_S)
        verdict.numbers["idle_cpu_share"] = round(idle_share, 4)
        verdict.at_most("rss_mb_at_rest", agent.rss_mb(), RSS_MAX_MB)
        begun_s, cpu_s = time.monotonic(), agent.cpu_s()
        result = send(place, requests)
        hops = until(lambda: agent.counters()["records"], lambda found: found >= requests, 10.0)
        took_s = time.monotonic() - begun_s
        used_s = agent.cpu_s() - cpu_s - idle_share * took_s
        verdict.equal("hops", hops, result.ok)
        verdict.numbers["requests_per_s"] = round(requests / result.elapsed_s)
        verdict.at_most("cpu_s_per_100k_beyond_idle", used_s / hops * 1e5, CPU_PER_100K_MAX_S)
        verdict.at_most("rss_mb_after", agent.rss_mb(), RSS_MAX_MB)
        with watching(agent):
            send(place, requests)
        verdict.at_most("rss_mb_peak_watched", agent.peak_rss_mb(), RSS_MAX_MB)
        agent.terminate()
    first_hop(verdict, place)
    return verdict


def send(place: Stage, requests: int) -> HttpResult:
    """Requests from 16 connections, all answered."""
    return place.client.http(place.server, requests=requests, connections=16, timeout_s=300.0).require_ok()


@contextmanager
def watching(agent: AgentProcess) -> Iterator[None]:
    """Somebody looks at the hops of the next 20 s, as `overhop hops` does: that is many at once."""
    with closing(views(agent.socket("watch"), 20.0)) as found:
        seen = threading.Thread(target=lambda: next(found))
        seen.start()
        yield
        seen.join()


def cpu_share(agent: AgentProcess, seconds: float) -> float:
    """CPU time per time, while nothing happens: the wait is what is measured."""
    begun_s, cpu_s = time.monotonic(), agent.cpu_s()
    until(time.monotonic, lambda now_s: now_s - begun_s >= seconds, seconds + 1)
    return (agent.cpu_s() - cpu_s) / (time.monotonic() - begun_s)


def first_hop(verdict: Verdict, place: Stage, arguments: Sequence[str] = ()) -> None:
    """From the start of the command to the first hop, of requests every 10 ms; the best of three starts.

    Compiled each time, and loaded from the cache that a start before them left.
    """
    compiled_s = [_first_hop_s(place, "", arguments) for _ in range(3)]
    cached_s = [_first_hop_s(place, str(place.directory / "cache"), arguments) for _ in range(4)][1:]
    verdict.numbers["first_hop_all_s"] = [round(one, 2) for one in compiled_s]
    verdict.numbers["first_hop_cached_all_s"] = [round(one, 2) for one in cached_s]
    verdict.at_most("first_hop_s", min(compiled_s), FIRST_HOP_MAX_S)
    verdict.at_most("first_hop_cached_s", min(cached_s), FIRST_HOP_CACHED_MAX_S)


def _first_hop_s(place: Stage, cache_directory: str, arguments: Sequence[str]) -> float:
    load = place.client.start_http(place.server, requests=6000, connections=1, rate_hz=100.0)
    under = ("env", f"{DIRECTORY_VARIABLE}={cache_directory}")
    with AgentProcess(place.node, place.directory, place.node.plan(), arguments, under) as agent:
        begun_s = time.monotonic() - agent.start_s
        until(lambda: agent.counters()["records"], lambda found: found >= 1, 10.0)
        took_s = time.monotonic() - begun_s
        agent.terminate()
    load.process.terminate()
    load.process.communicate()
    return took_s
