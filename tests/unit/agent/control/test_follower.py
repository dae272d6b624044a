# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.control import follower
from agent.control.client import ControllerAddress
from agent.control.follower import PlanFollower
from agent.plan.contract import NodePlan
from tests.kubernetes import until
from tests.unit.agent.control.fake_controller import Asked, Said, fake_controller

PLAN = NodePlan(cluster="c1", node="n1", nic=("eth0",))


def said(plan: NodePlan) -> Said:
    return Said(200, plan.as_json(), {"ETag": f'"{plan.digest}"'})


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "WAIT_S", 0.05)
    monkeypatch.setattr(follower, "FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(follower, "MAX_WAIT_S", 0.05)


@contextmanager
def followed(
    address: ControllerAddress, keep: Path | None = None, inventory: Callable[[], bytes] = lambda: b"{}"
) -> Iterator[PlanFollower]:
    one = PlanFollower(address, "n1", inventory, keep)
    one.start()
    try:
        yield one
    finally:
        one.stop()


def test_inventory_is_sent_first_and_the_plan_followed() -> None:
    asked: list[Asked] = []

    def answer(one: Asked) -> Said:
        asked.append(one)
        return Said(204) if one.method == "PUT" else said(PLAN)

    with fake_controller(answer) as address, followed(address, inventory=lambda: b'{"nic": []}') as one:
        assert one.wait(5) == PLAN
    assert (asked[0].method, asked[0].path, asked[0].body) == (
        "PUT",
        "/v1/nodes/n1/inventory",
        b'{"nic": []}',
    )
    assert (asked[1].method, asked[1].path) == ("GET", "/v1/nodes/n1/plan?wait_s=0")


def test_next_question_waits_for_another_plan() -> None:
    asked: list[Asked] = []
    other = NodePlan(cluster="c1", node="n1", nic=("eth1",))

    def answer(one: Asked) -> Said:
        if one.method == "PUT":
            return Said(204)
        asked.append(one)
        return {1: said(PLAN), 2: Said(304, headers={"ETag": f'"{PLAN.digest}"'})}.get(
            len(asked), said(other)
        )

    with fake_controller(answer) as address, followed(address) as one:
        until("the other plan", lambda: one.plan == other)
    assert asked[1].headers["If-None-Match"] == f'"{PLAN.digest}"'
    assert asked[1].path.endswith("wait_s=0.05")


def test_controller_that_asks_for_the_inventory_gets_it_again() -> None:
    puts: list[Asked] = []

    def answer(one: Asked) -> Said:
        if one.method == "PUT":
            puts.append(one)
            return Said(204)
        return said(PLAN) if len(puts) > 1 else Said(409, b'{"detail": "send it"}')

    with fake_controller(answer) as address, followed(address) as one:
        assert one.wait(5) == PLAN
    assert len(puts) == 2


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (Said(200, b"no json"), "plan: it is no JSON"),
        (Said(200, b'{"contract": 3}'), "plan: contract 3, this agent knows contract 2"),
        (
            Said(200, b'{"contract": 2, "cluster": "c", "node": "n2"}'),
            "plan: it is for node 'n2', this is 'n1'",
        ),
        (Said(401, b'{"detail": "who?"}'), "controller: 401: who?"),
        (Said(503), "controller: 503: without a reason"),
        (Said(406, b'{"detail": "too old"}'), "controller: 406: too old"),
    ],
)
def test_plan_stays_while_what_comes_cannot_be_followed(wrong: Said, problem: str) -> None:
    answers = [said(PLAN), wrong]

    def answer(one: Asked) -> Said:
        if one.method == "PUT":
            return Said(204)
        return answers.pop(0) if len(answers) > 1 else answers[0]

    with fake_controller(answer) as address, followed(address) as one:
        until("a problem", lambda: one.problem)
        assert one.problem == problem
        assert one.plan == PLAN
        answers[:] = [said(PLAN)]
        until("no problem any more", lambda: not one.problem)


def test_last_plan_is_kept_for_a_start_while_the_controller_is_away(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "plan.json"

    def answer(one: Asked) -> Said:
        return Said(204) if one.method == "PUT" else said(PLAN)

    with fake_controller(answer) as address, followed(address, file) as one:
        assert one.wait(5) == PLAN
    with followed(address, file) as one:
        assert one.plan == PLAN
    file.write_bytes(b"{")
    with followed(address, file) as one:
        assert one.plan is None
