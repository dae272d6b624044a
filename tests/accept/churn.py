# SPDX-License-Identifier: Apache-2.0
"""Pods come and go under load: each is traced within a second, and nothing of them stays."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from overhop.lab import Pod
from tests.accept import kernel_state
from tests.accept.agents import AgentProcess
from tests.accept.kernel_state import Held
from tests.accept.lifecycle import NIC, Stage
from tests.accept.traffic import Probes, SteadyLoad, Traced
from tests.accept.verdict import Verdict, until

TRACED_WITHIN_S = 1.0
RSS_MAX_MB = 80.0
REQUESTS_OF_A_POD = 50
VPORT_MAPS = ("oh_owners", "oh_filter", "oh_seen")
NO_STORE = ("--store", "none")
"""A store opens its files and starts its writer when there is something to write: no descriptors of pods."""
_END_TIMEOUT_S = 120.0
_CLEAN_TIMEOUT_S = 30.0


def churn(place: Stage, pods: int, rate_hz: float) -> Verdict:
    """So many pods are made one after the other, send requests, and are deleted, beside a steady load."""
    verdict = Verdict(f"churn of {pods} pods")
    names = [f"churn-{number}" for number in range(pods)]
    plan = _plan(place, names)
    with AgentProcess(place.node, place.directory, plan, NO_STORE) as agent:
        held, descriptors = Held.by(agent.pid), agent.descriptors()
        entries = {name: held.entries(name) for name in VPORT_MAPS}
        agent.start_recording()
        with SteadyLoad(place.client, place.server, rate_hz) as load:
            made, traced = _made(place, verdict, agent, names)
            _deleted(place, verdict, made)
        load.check(verdict)
        _check_traced(verdict, traced)
        verdict.eventually(
            "programs", lambda: dict(kernel_state.hooks(place.node)), _hooks(place), _CLEAN_TIMEOUT_S
        )
        verdict.eventually("descriptors", agent.descriptors, descriptors, _CLEAN_TIMEOUT_S)
        now = Held.by(agent.pid)
        verdict.equal("held objects", now, held)
        verdict.equal("map entries", {name: now.entries(name) for name in VPORT_MAPS}, entries)
        counters = agent.settled_counters()
        verdict.equal(
            "lost",
            {name: counters[name] for name in ("ring_full", "slot_busy")},
            {"ring_full": 0, "slot_busy": 0},
        )
        verdict.at_most("rss_mb", agent.rss_mb(), RSS_MAX_MB)
        verdict.equal(
            "log", [line for line in agent.lines() if line.get("level") not in ("info", "debug")], []
        )
        totals = agent.terminate()
        verdict.equal("totals", {name: n for name, n in totals["imbalances"].items() if n}, {})
        verdict.equal("left", held.await_gone(), [])
    return verdict


def _plan(place: Stage, names: Sequence[str]) -> dict[str, Any]:
    """The pods that are there and those to come, with addresses, so that every map has entries of them."""
    first = len(place.node.pods) + 2
    vports = [
        {
            "match": place.node.vport_name(name),
            "pod": name,
            "addresses": [str(place.node.plot.subnet[first + number])],
        }
        for number, name in enumerate(names)
    ]
    plan = place.node.plan()
    return plan | {"vports": [*_listed(plan["vports"]), *vports], "program": {"filter": True}}


def _listed(vports: object) -> list[object]:
    return vports if isinstance(vports, list) else []


def _hooks(place: Stage) -> dict[str, int]:
    return dict(kernel_state.one_set(NIC, place.vports))


def _made(
    place: Stage, verdict: Verdict, agent: AgentProcess, names: Sequence[str]
) -> tuple[list[Pod], list[Traced | None]]:
    made = []
    with Probes(str(place.server.address), REQUESTS_OF_A_POD) as probes:
        begun_s = time.monotonic()
        for name in names:
            created_ns = time.monotonic_ns()
            made.append(place.node.pod(name))
            probes.add(made[-1], created_ns)
        verdict.numbers["created_per_s"] = round(len(names) / (time.monotonic() - begun_s), 1)
        verdict.equal("unanswered", until(probes.unanswered, lambda left: left == 0, _END_TIMEOUT_S), 0)
        verdict.equal("programs with all pods", dict(kernel_state.hooks(place.node)), _hooks(place))
        verdict.numbers["descriptors_with_all_pods"] = agent.descriptors()
        return made, probes.traced(agent.recorded())


def _deleted(place: Stage, verdict: Verdict, made: Sequence[Pod]) -> None:
    begun_s = time.monotonic()
    for pod in made:
        place.node.delete_pod(pod)
    verdict.numbers["deleted_per_s"] = round(len(made) / (time.monotonic() - begun_s), 1)


def _check_traced(verdict: Verdict, traced: Sequence[Traced | None]) -> None:
    seen = [one for one in traced if one is not None]
    verdict.equal("pods never traced", len(traced) - len(seen), 0)
    if not seen:
        return
    first_s = np.array([one.first_s for one in seen])
    verdict.at_most("traced_after_creation_worst_s", float(first_s.max()), TRACED_WITHIN_S)
    verdict.numbers["traced_after_creation_p99_s"] = round(float(np.percentile(first_s, 99)), 3)
    verdict.numbers["traced_after_creation_p50_s"] = round(float(np.median(first_s)), 3)
    verdict.numbers["requests_before_traced"] = sum(one.missed for one in seen)
    verdict.equal("requests not seen after the first of their pod", sum(one.gaps for one in seen), 0)
