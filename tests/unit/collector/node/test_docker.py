# SPDX-License-Identifier: Apache-2.0
"""Docker as a real engine was recorded, and as none should be; tests/kernel/test_docker.py has a real one."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.node.pods import engine as engine_module
from collector.node.pods.docker import DockerPods
from collector.node.pods.engine import Engine, EngineError
from collector.node.pods.local import LocalPod
from tests.fake_docker import FakeEngine, serving


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "docker.sock"


@pytest.fixture
def engine(place: Path) -> Iterator[FakeEngine]:
    one = FakeEngine()
    with serving(place, one):
        yield one


@pytest.fixture
def pods(place: Path, engine: FakeEngine) -> Iterator[DockerPods]:
    assert engine.containers
    one = DockerPods(str(place), lambda _: ("10.88.0.5",))
    yield one
    one.close()


def by_name(pods: DockerPods) -> dict[str, LocalPod]:
    return {each.name: each for each in pods.pods()}


def inspected(engine: FakeEngine, name: str) -> dict[str, Any]:
    return engine.inspected[engine.named(name)["Id"]]


def test_plain_container_is_a_pod_without_a_namespace(pods: DockerPods, engine: FakeEngine) -> None:
    web = engine.named("web-1")
    assert by_name(pods)["web-1"] == LocalPod(
        uid=web["Id"],
        namespace="",
        name="web-1",
        workload="web",
        labels={"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
        addresses=("172.17.0.2",),
        sandbox=web["Id"],
        pid=inspected(engine, "web-1")["State"]["Pid"],
        created_ns=web["Created"] * 1_000_000_000,
    )


def test_sandbox_is_a_pod_of_kubernetes_with_the_address_of_its_process(pods: DockerPods) -> None:
    found = by_name(pods)["web-0"]
    assert (found.uid, found.namespace, found.name, found.workload) == (
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "shop",
        "web-0",
        "",
    )
    assert (found.labels, found.addresses) == ({"app": "web"}, ("10.88.0.5",))


def test_containers_that_share_a_network_are_told_once(pods: DockerPods, engine: FakeEngine) -> None:
    assert len(engine.containers) == 6
    assert sorted(by_name(pods)) == ["apart", "on-node", "web-0", "web-1"]
    assert by_name(pods)["on-node"].is_on_host_network


def test_address_of_version_6_is_told(pods: DockerPods, engine: FakeEngine) -> None:
    network = inspected(engine, "web-1")["NetworkSettings"]["Networks"]["bridge"]
    network["GlobalIPv6Address"] = "fd00::2"
    assert by_name(pods)["web-1"].addresses == ("172.17.0.2", "fd00::2")


def test_only_what_is_new_or_restarted_is_asked_about(pods: DockerPods, engine: FakeEngine) -> None:
    assert len(pods.pods()) == 4
    web = engine.named("web-1")
    web["NetworkSettings"]["Networks"]["bridge"]["EndpointID"] = "another"
    inspected(engine, "web-1")["State"]["Pid"] = 77
    engine.containers.remove(engine.named("apart"))
    engine.asked.clear()
    assert by_name(pods)["web-1"].pid == 77
    assert engine.asked == ["/v1.41/containers/json", f"/v1.41/containers/{web['Id']}/json"]
    assert sorted(by_name(pods)) == ["on-node", "web-0", "web-1"]
    assert engine.connections == 1


def test_sandbox_without_an_address_yet_is_asked_about_again(place: Path, engine: FakeEngine) -> None:
    found: list[tuple[str, ...]] = [(), ("10.88.0.5",)]
    pods = DockerPods(str(place), lambda _: found.pop(0))
    assert engine.containers
    engine.containers = [each for each in engine.containers if "app" in each["Labels"]]
    assert [pods.pods(), len(pods.pods()), len(pods.pods())] == [(), 1, 1]
    pods.close()


def test_container_that_ends_between_list_and_question_is_no_failure(
    pods: DockerPods, engine: FakeEngine
) -> None:
    del engine.inspected[engine.named("web-1")["Id"]]
    inspected(engine, "on-node")["State"]["Pid"] = 0
    assert sorted(by_name(pods)) == ["apart", "web-0"]
    assert pods.problem == ""


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"{", "its answer is no JSON"),
        (200, b"[" * 100_000, "its answer is no JSON"),
        (200, b"\xff\xfe", "its answer is no JSON"),
        (200, b"{}", "its answer is no list of containers"),
        (500, b'{"message":"it is\\nbroken"}', "500 it is broken"),
        (503, b"<html>", "503 Service Unavailable"),
        (500, b"[]", "500 Internal Server Error"),
    ],
)
def test_failure_is_a_problem_and_what_was_known_stays(
    pods: DockerPods, engine: FakeEngine, place: Path, status: int, body: bytes, said: str
) -> None:
    assert len(pods.pods()) == 4
    engine.answers["/containers/json"] = (status, body)
    assert len(pods.pods()) == 4
    assert pods.problem == f"Docker at {place}: {said}"
    engine.answers.clear()
    assert len(pods.pods()) == 4
    assert pods.problem == ""


def test_answer_that_is_another_leaves_out_what_it_lacks(pods: DockerPods, engine: FakeEngine) -> None:
    ids = [each["Id"] for each in engine.containers]
    engine.containers = [{"Id": ids[0]}, {"Id": 5}, {"Id": ids[1], "Labels": [], "NetworkSettings": 7}]
    engine.inspected = {ids[0]: {"State": {"Pid": "x"}}, ids[1]: {"State": {"Pid": 9}, "Name": None}}
    [found] = pods.pods()
    assert (found.pid, found.name, found.addresses) == (9, "", ("10.88.0.5",))


def test_answer_that_is_too_long_is_given_up(
    pods: DockerPods, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine.containers
    monkeypatch.setattr(engine_module, "MAX_ANSWER_BYTES", 1000)
    assert pods.pods() == ()
    assert pods.problem.endswith("an answer of more than 1000 bytes")


def test_engine_that_ends_and_comes_back(place: Path) -> None:
    pods = DockerPods(str(place), lambda _: ("10.88.0.5",))
    with serving(place, FakeEngine()):
        assert len(pods.pods()) == 4
    assert len(pods.pods()) == 4
    assert pods.problem
    with serving(place, FakeEngine()):
        assert len(pods.pods()) == 4
    assert pods.problem == ""
    pods.close()


def test_engine_that_says_nothing_is_given_up_in_time(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place))
        silent.listen()
        engine = Engine(str(place), timeout_s=0.2)
        with pytest.raises(EngineError, match="no answer in time"):
            engine.version()
        engine.close()


@pytest.mark.parametrize(
    ("newest", "oldest", "chosen"),
    [("1.41", "1.12", "1.41"), ("1.51", "1.24", "1.41"), ("1.52", "1.44", "1.44"), ("1.30", "1.12", "1.30")],
)
def test_version_of_the_api_is_one_that_the_engine_has(
    place: Path, newest: str, oldest: str, chosen: str
) -> None:
    one = FakeEngine()
    one.version |= {"ApiVersion": newest, "MinAPIVersion": oldest}
    with serving(place, one):
        engine = Engine(str(place))
        if chosen == "1.41":
            assert len(engine.get("/containers/json")) == 6
        else:
            with pytest.raises(EngineError, match="too new"):
                engine.get("/containers/json")
        assert one.asked[-1] == f"/v{chosen}/containers/json"
        engine.close()


@pytest.mark.parametrize("answer", [{}, [], {"ApiVersion": 5}, {"ApiVersion": "new"}, {"ApiVersion": "1.²"}])
def test_whoever_is_no_docker_is_said(place: Path, answer: object) -> None:
    one = FakeEngine()
    one.version = answer
    with serving(place, one):
        pods = DockerPods(str(place), lambda _: ())
        assert pods.pods() == ()
        assert "no Docker engine" in pods.problem or "no number" in pods.problem
        pods.close()


@pytest.mark.parametrize(
    "answer", [b"\0\0\x12\4\0\0\0\0\0", b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
)
def test_answer_that_is_no_http_is_a_problem(place: Path, answer: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        server.listen()
        thread = threading.Thread(target=_say, args=(server, answer))
        thread.start()
        pods = DockerPods(str(place), lambda _: ())
        assert pods.pods() == ()
        assert pods.problem.startswith(f"Docker at {place}: ")
        thread.join()
        pods.close()


def _say(server: socket.socket, answer: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1 << 16)
        connection.sendall(answer)
