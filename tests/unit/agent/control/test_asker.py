# SPDX-License-Identifier: Apache-2.0
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any

import pytest

from agent.control import asker
from agent.control.asker import Asker
from agent.control.client import ControllerAddress
from agent.control.pods import OwnPod
from agent.naming.names import EndNames
from tests.kubernetes import until
from tests.unit.agent.control.fake_controller import Asked, Said, fake_controller

POD = {"kind": "pod", "uid": "u1", "namespace": "shop", "name": "web-1", "workload": "web", "node": "n2"}
SERVICE = {
    "kind": "service",
    "namespace": "shop",
    "name": "web",
    "ports": [{"port": 80, "protocol": "TCP", "node_port": 30080}],
}


WEB, DB = OwnPod("u1", "shop", "web-1", "veth1"), OwnPod("u2", "shop", "db-0", "veth2")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asker, "RETRY_S", 0.02)


@contextmanager
def asking(address: ControllerAddress) -> Iterator[Asker]:
    one = Asker(address)
    one.start()
    try:
        yield one
    finally:
        one.stop()


def knows(names: dict[Any, Any], questions: list[Any]) -> Any:  # noqa: ANN401  a function
    def answer(one: Asked) -> Said:
        asked = json.loads(one.body)["asked"]
        questions.extend(asked)
        key = [each.get("address") or each.get("uid") or each.get("node_port") for each in asked]
        return Said(
            200, json.dumps({"names": [names.get(each, {"kind": "unknown"}) for each in key]}).encode()
        )

    return answer


def test_marks_get_the_names_of_that_time() -> None:
    questions: list[Any] = []
    names: dict[Any, Any] = {
        "10.0.0.1": POD, "10.0.0.2": {"kind": "node", "name": "n2"}, "10.0.0.3": {"kind": "ambiguous"},
        "10.0.0.4": {"kind": "external"}, "10.96.0.1": SERVICE, 30080: SERVICE, "u1": POD,
    }  # fmt: skip
    marks = [
        "?a10.0.0.1", "?a10.0.0.2", "?a10.0.0.3", "?a10.0.0.4", "?a10.0.0.9",
        "?s10.96.0.1 80", "?s10.96.0.1 81", "?p30080", "?uu1", "?uu2",
    ]  # fmt: skip
    with fake_controller(knows(names, questions)) as address, asking(address) as one:
        ticket = one.ask(marks, 100, 200, settle_s=0)
        answers = until("answers", lambda: ticket.answers)
    assert answers == {
        "?a10.0.0.1": EndNames("shop", "web-1", "web"),
        "?a10.0.0.2": EndNames("", "", "host"),
        "?a10.0.0.3": EndNames("", "", "ambiguous"),
        "?a10.0.0.4": EndNames("", "", "external"),
        "?a10.0.0.9": EndNames("", "", "unknown"),
        "?s10.96.0.1 80": EndNames("", "", "shop/web"),
        "?s10.96.0.1 81": EndNames("", "", "unknown"),
        "?p30080": EndNames("", "", "shop/web"),
        "?uu1": EndNames("", "", "web"),
        "?uu2": EndNames("", "", "unknown"),
    }
    assert {"address": "10.0.0.1", "from_ns": 100, "until_ns": 200} in questions
    assert one.latest("?a10.0.0.1") == EndNames("shop", "web-1", "web")


@pytest.mark.parametrize(
    "wrong",
    [b"no json", b"[]", b'{"names": []}', b'{"names": [5]}', b'{"names": [{}, {}]}', b"[" * 100_000],
)
def test_answer_that_is_none_is_asked_for_again(wrong: bytes) -> None:
    answers = [Said(200, wrong), Said(200, json.dumps({"names": [POD]}).encode())]

    def answer(_: Asked) -> Said:
        return answers.pop(0) if len(answers) > 1 else answers[0]

    with fake_controller(answer) as address, asking(address) as one:
        ticket = one.ask(["?uu1"], 0, 0)
        until("an answer", lambda: ticket.answers)
    assert one.counts["ask_failures"] == 1


def test_ticket_that_nobody_answers_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asker, "EXPIRES_S", 0.1)
    with fake_controller(lambda _: Said(503)) as address, asking(address) as one:
        ticket = one.ask(["?a10.0.0.1"], 0, 0, settle_s=0)
        until("it is over", lambda: ticket.answers is not None)
    assert ticket.answers == {}
    assert one.counts["expired"] == 1


def test_workloads_are_asked_for_until_they_are_known_and_forgotten_with_their_pods() -> None:
    questions: list[Any] = []
    names: dict[Any, Any] = {"u1": POD}
    with fake_controller(knows(names, questions)) as address, asking(address) as one:
        one.know([WEB, DB])
        until("u1 is known", lambda: one.workloads == {"u1": "web"})
        names["u2"] = POD | {"workload": "db"}
        until("u2 too", lambda: one.workloads == {"u1": "web", "u2": "db"})
        one.know([DB])
        until("u1 is forgotten", lambda: one.workloads == {"u2": "db"})


def test_interface_is_its_pods_also_when_the_pod_is_gone() -> None:
    with fake_controller(knows({"u1": POD}, [])) as address, asking(address) as one:
        one.know([WEB, DB])
        one.know([])
        ticket = one.ask(["?iveth1", "?iveth2", "?iveth9"], 0, 0, settle_s=0)
        answers = until("answers", lambda: ticket.answers)
    assert answers == {
        "?iveth1": EndNames("shop", "web-1", "web"),
        "?iveth2": EndNames("shop", "db-0", "unknown"),
        "?iveth9": EndNames("", "veth9", "veth9"),
    }


def test_node_whose_clock_is_an_hour_behind_asks_in_the_controllers_time() -> None:
    questions: list[Any] = []
    right = knows({"10.0.0.1": POD}, questions)

    def answer(one: Asked) -> Said:
        said: Said = right(one)
        said.headers["Date"] = formatdate(time.time() + 3600, usegmt=True)
        return said

    own_ns = time.time_ns()
    with fake_controller(answer) as address, asking(address) as one:
        ticket = one.ask(["?a10.0.0.1"], own_ns - 10_000_000_000, own_ns, settle_s=0)
        until("answers", lambda: ticket.answers)
    ahead_s = (questions[0]["until_ns"] - own_ns) / 1e9
    assert 3599 <= ahead_s <= 3601
    assert questions[0]["until_ns"] - questions[0]["from_ns"] == 10_000_000_000


def test_pod_whose_workload_the_runtime_told_is_not_asked_about() -> None:
    questions: list[Any] = []
    plain = OwnPod("c1", "", "web-1", "veth1", workload="web")
    with fake_controller(knows({}, questions)) as address, asking(address) as one:
        one.know([plain])
        ticket = one.ask(["?iveth1"], 1, 2, settle_s=0)
        until("an answer", lambda: ticket.answers is not None, 5)
        assert ticket.answers == {"?iveth1": EndNames("", "web-1", "web")}
    assert questions == []
