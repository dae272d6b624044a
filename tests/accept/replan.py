# SPDX-License-Identifier: Apache-2.0
"""The plan changes under load: programs are exchanged in place; a plan that is wrong changes nothing."""

from typing import Any

from tests.accept import kernel_state
from tests.accept.agents import AgentProcess, imbalances
from tests.accept.kernel_state import Held
from tests.accept.lifecycle import HOPS_BETWEEN, NIC, NODE_PORT, Stage
from tests.accept.traffic import SteadyLoad
from tests.accept.verdict import Verdict

SWAP_TIMEOUT_S = 90.0
MISSED_MAX = 32
"""Stamps of requests that were between their two points, or met one old and one new program: per exchange
about what passes in a millisecond."""
UNPAIRED = 10
"""Requests to the node itself, whose stamps wait when the programs are exchanged."""
BROKEN = "nic: eth0\nvports:\n  - match: veth1\n    namespce: shop\nprogram:\n  window: 7\n"
PROBLEMS = (
    ":4:5: vports[0].namespce: unknown key, did you mean `namespace`?",
    ":6:11: program.window: 7 is not within 64 to 8192 bytes",
)


def replan(place: Stage, mode: str, rate_hz: float) -> Verdict:
    """Another window, then the filter, then a broken plan, while requests go on."""
    verdict = Verdict(f"replan {mode}")
    plan = place.node.plan()
    with AgentProcess(place.node, place.directory, plan=plan, arguments=("--attach", mode)) as agent:
        agent.start_recording()
        with SteadyLoad(place.client, place.server, rate_hz) as load:
            verdict.equal("hops at first", agent.await_records(HOPS_BETWEEN) >= HOPS_BETWEEN, True)
            place.client.http(place.node, NODE_PORT, requests=UNPAIRED).require_ok()
            programs: dict[str, Any]
            for number, programs in enumerate(({"window": 1024}, {"window": 1024, "filter": True}), start=1):
                _exchange(verdict, place, agent, plan | {"program": programs}, number)
            _broken(verdict, place, agent)
        load.check(verdict)
        _totals(verdict, agent, load.requests)
        agent.terminate()
    return verdict


def _exchange(verdict: Verdict, place: Stage, agent: AgentProcess, plan: dict[str, Any], number: int) -> None:
    before = Held.by(agent.pid)
    agent.write_plan(plan)
    agent.await_line("new plan", SWAP_TIMEOUT_S, count=number)
    now = Held.by(agent.pid)
    verdict.equal(f"exchange {number}: programs that stayed", before.programs & now.programs, frozenset())
    verdict.equal(f"exchange {number}: links", now.links, before.links)
    _one_set(verdict, place, f"exchange {number}")
    old = Held(before.programs, before.maps, frozenset())
    verdict.equal(f"exchange {number}: left", old.await_gone(), [])
    verdict.equal(f"exchange {number}: hops", agent.await_records(HOPS_BETWEEN) >= HOPS_BETWEEN, True)


def _broken(verdict: Verdict, place: Stage, agent: AgentProcess) -> None:
    before = Held.by(agent.pid)
    agent.write_plan(BROKEN)
    lines = agent.await_line("the plan is wrong, the old one stays", SWAP_TIMEOUT_S, count=len(PROBLEMS))
    found = [line["problem"] for line in lines]
    verdict.equal("problems of the broken plan", found, [f"{agent.plan_path}{text}" for text in PROBLEMS])
    verdict.equal("broken plan: held", Held.by(agent.pid), before)
    _one_set(verdict, place, "broken plan")
    verdict.equal("broken plan: hops", agent.await_records(HOPS_BETWEEN) >= HOPS_BETWEEN, True)


def _one_set(verdict: Verdict, place: Stage, when: str) -> None:
    expected = dict(kernel_state.one_set(NIC, place.vports))
    verdict.equal(f"{when}: programs", dict(kernel_state.hooks(place.node)), expected)


def _totals(verdict: Verdict, agent: AgentProcess, requests: int) -> None:
    counters = agent.settled_counters()
    verdict.equal("imbalances", imbalances(counters), {"first": 0, "second": 0, "taken": 0})
    verdict.equal("records recorded", len(agent.recorded()), counters["records"])
    verdict.equal("ring_full", counters["ring_full"], 0)
    verdict.numbers["swapped"] = counters["swapped"]
    verdict.equal("stamps that waited were counted", counters["swapped"] >= UNPAIRED, True)
    verdict.at_most("requests without hop", requests - counters["records"], MISSED_MAX)
