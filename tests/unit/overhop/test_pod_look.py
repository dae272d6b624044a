# SPDX-License-Identifier: Apache-2.0
"""Pods of an agent of a cluster: by a runtime, or by the kernel and the controller."""

import json
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.control.by_address import PodsByAddress
from agent.control.client import ControllerAddress
from agent.control.pods import OwnPod
from agent.network.links import Link
from collector.node.pods import choose
from collector.node.pods.choose import AutoPods, Kernel
from collector.node.pods.local import LocalPod
from overhop import controlled, own_pods
from overhop.controlled import PodLook
from tests import fake_docker
from tests.fake_docker import FakeEngine
from tests.unit.agent.control.fake_controller import Asked, Said, fake_controller

UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
STATIC = "94f4e4d2d8ca3a5d8a2b7b4d8fe5a6c1"
LINKS = [Link(7, "veth7", kind="veth", link_netnsid=1), Link(8, "veth8", kind="veth", link_netnsid=2)]
ANSWERS = {
    UID: {"kind": "pod", "uid": UID, "namespace": "shop", "name": "web-0"},
    "10.0.0.8": {"kind": "pod", "uid": "u8", "namespace": "shop", "name": "static"},
}


@pytest.fixture
def other() -> Iterator[PodsByAddress]:
    def answer(one: Asked) -> Said:
        asked = [each.get("uid") or each["address"] for each in json.loads(one.body)["asked"]]
        names = [ANSWERS.get(each, {"kind": "unknown"}) for each in asked]
        return Said(200, json.dumps({"names": names}).encode())

    with fake_controller(answer) as address:
        one = PodsByAddress(address)
        yield one
        one._client.close()


@pytest.fixture(autouse=True)
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.network.links.links", lambda: LINKS)
    monkeypatch.setattr("agent.network.nsid.nsid_of", {31: 1, 32: 2}.get)
    monkeypatch.setattr(choose, "addresses_of", lambda pid: ("10.0.0.7",) if pid == 32 else ())


def test_plain_container_of_docker_needs_no_controller(tmp_path: Path, other: PodsByAddress) -> None:
    engine = FakeEngine()
    for name, pid in (("web-1", 31), ("k8s_POD_web-0_shop_0", 32)):
        engine.inspected[engine.named(name)["Id"]]["State"]["Pid"] = pid
    place = tmp_path / "docker.sock"
    with fake_docker.serving(place, engine):
        look = PodLook(str(place), other)
        found, problem = look()
        look._source.close()
    assert problem == ""
    placed = {each.ifname: each for each in found if each.ifname}
    plain, pod = placed["veth7"], placed["veth8"]
    assert (plain.namespace, plain.name, plain.workload) == ("", "web-1", "web")
    assert pod == OwnPod(UID, "shop", "web-0", "veth8", (ip_address("10.0.0.7"),), {"app": "web"})


def test_pods_that_the_kernel_tells_are_named_by_the_controller(
    monkeypatch: pytest.MonkeyPatch, other: PodsByAddress
) -> None:
    class KernelOnly(AutoPods):
        def pods(self) -> tuple[LocalPod, ...]:
            return (
                LocalPod(UID, "", "", addresses=("10.0.0.7",), interface="veth7"),
                LocalPod(STATIC, "", "", addresses=("10.0.0.8",), interface="veth8"),
                LocalPod("", "", "", addresses=("10.0.0.9",)),
            )

    monkeypatch.setattr(
        own_pods, "open_own", lambda _: KernelOnly(Kernel(lambda: LINKS, lambda _: None, dict), [], [])
    )
    found, problem = PodLook("auto", other)()
    assert problem == ""
    assert {(each.ifname, each.uid, each.name) for each in found} == {
        ("veth7", UID, "web-0"),
        ("veth8", "u8", "static"),
    }


def test_nobody_is_asked_but_the_kernel_and_the_controller(
    monkeypatch: pytest.MonkeyPatch, other: PodsByAddress
) -> None:
    monkeypatch.setattr(PodsByAddress, "__call__", lambda _: ((), "by routes"))
    assert PodLook("none", other)() == ((), "by routes")


def test_doctor_of_a_node_asks_whom_the_agent_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> object:
        commands.append(command)
        raise OSError

    monkeypatch.setattr("overhop.controlled.subprocess.run", run)
    assert controlled.doctor_findings("none")
    assert commands[0][-4:] == ["doctor", "--json", "--cri", "none"]


def test_socket_that_is_not_there_is_a_problem() -> None:
    nobody = PodsByAddress(ControllerAddress("http://127.0.0.1:9"))
    found, problem = PodLook("/nonexistent/x.sock", nobody)()
    assert found == ()
    assert problem == "container runtime at /nonexistent/x.sock: No such file or directory"
