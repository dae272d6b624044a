# SPDX-License-Identifier: Apache-2.0
import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from ipaddress import ip_address
from typing import Any

import pytest

from agent.control import by_address
from agent.control.by_address import Nameless, PodsByAddress
from agent.control.client import ControllerAddress
from agent.control.pods import OwnPod
from agent.network.behind import Kernel
from agent.network.links import Link
from tests.unit.agent.control.fake_controller import Asked, Said, fake_controller

WEB = {"kind": "pod", "uid": "u1", "namespace": "shop", "name": "web-1", "labels": {"app": "web"}}


class Node:
    """What kernel and controller know."""

    def __init__(self) -> None:
        self.routes: list[tuple[int, str]] = []
        self.names: dict[str, Any] = {}
        self.asked: list[list[str]] = []
        self.status = 200

    def answer(self, one: Asked) -> Said:
        addresses = [each.get("address") or each["uid"] for each in json.loads(one.body)["asked"]]
        if addresses:  # else only the time is asked for
            self.asked.append(addresses)
        found = [self.names.get(each, {"kind": "unknown"}) for each in addresses]
        return Said(self.status, json.dumps({"names": found}).encode())


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    monkeypatch.setattr(by_address, "ASK_S", 0.0)
    one = Node()
    links = [Link(7, "veth7", kind="veth", link_netnsid=1), Link(8, "veth8", kind="veth", link_netnsid=2)]
    monkeypatch.setattr(by_address, "links", lambda: links)
    monkeypatch.setattr(
        by_address,
        "read_kernel",
        lambda: Kernel(routes=tuple((index, ip_address(address)) for index, address in one.routes)),
    )
    return one


@pytest.fixture
def address(node: Node) -> Iterator[ControllerAddress]:
    with fake_controller(node.answer) as found:
        yield found


def test_pod_is_told_by_its_address_and_asked_about_until_it_is_known(
    node: Node, address: ControllerAddress
) -> None:
    look = PodsByAddress(address)
    assert look() == ((), "")
    assert node.asked == []
    node.routes = [(7, "10.0.0.7"), (8, "10.0.0.8")]
    assert look() == ((), "")
    node.names["10.0.0.7"] = WEB
    pod = OwnPod("u1", "shop", "web-1", "veth7", (ip_address("10.0.0.7"),), {"app": "web"})
    assert look() == ((pod,), "")
    assert look() == ((pod,), "")
    assert node.asked[-1] == ["10.0.0.8"]
    node.routes = []
    assert look() == ((), "")
    look._client.close()


def test_controller_is_not_asked_ten_times_a_second(
    node: Node, address: ControllerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_address, "ASK_S", 60.0)
    look = PodsByAddress(address)
    node.routes = [(7, "10.0.0.7")]
    for _ in range(5):
        look()
    assert len(node.asked) == 1
    look._client.close()


def test_controller_that_refuses_is_a_problem_and_what_was_known_stays(
    node: Node, address: ControllerAddress
) -> None:
    look = PodsByAddress(address)
    node.routes, node.names["10.0.0.7"] = [(7, "10.0.0.7")], WEB
    assert len(look()[0]) == 1
    node.routes.append((8, "10.0.0.8"))
    node.status = 503
    found, problem = look()
    assert len(found) == 1
    assert problem.startswith("controller: 503")
    look._client.close()


def test_pod_whose_uid_is_known_is_told_by_it(node: Node, address: ControllerAddress) -> None:
    look = PodsByAddress(address)
    node.names["u1"] = WEB
    found, problem = look.named(
        [
            Nameless("veth7", (ip_address("10.0.0.7"),), "u1"),
            Nameless("veth8", (ip_address("10.0.0.8"),)),
        ]
    )
    assert node.asked == [["u1", "10.0.0.8"]]
    assert found == (OwnPod("u1", "shop", "web-1", "veth7", (ip_address("10.0.0.7"),), {"app": "web"}),)
    assert problem == ""
    look._client.close()


def test_node_whose_clock_is_ahead_asks_in_the_controllers_time(node: Node) -> None:
    times: list[int] = []

    def answer(one: Asked) -> Said:
        times.extend(each["until_ns"] for each in json.loads(one.body)["asked"])
        said = node.answer(one)
        said.headers["Date"] = formatdate(time.time() - 3600, usegmt=True)
        return said

    with fake_controller(answer) as address:
        look = PodsByAddress(address)
        look.named([Nameless("veth7", (ip_address("10.0.0.7"),))])
        look._client.close()
    assert 3598 <= time.time() - times[0] / 1e9 <= 3602
