# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from collector.node.pods import choose
from collector.node.pods.choose import (
    AUTO,
    NONE,
    AutoPods,
    Kernel,
    NoPods,
    SocketPods,
    described,
    open_source,
)
from collector.node.pods.local import LocalPod, PodSource
from collector.node.pods.routes import RoutePods
from tests import fake_cri, fake_docker
from tests.fake_cri import Runtime
from tests.fake_docker import FakeEngine


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    link_netnsid: int | None = None


LINKS = [Interface("eth0"), Interface("veth1", 1)]


def refused() -> Mapping[str, Sequence[object]]:
    raise OSError(1, "Operation not permitted")


def kernel(
    links: Sequence[Interface] = LINKS,
    behind: Callable[[], Mapping[str, Sequence[object]]] = lambda: {"veth1": ["10.0.0.1"]},
) -> Kernel:
    return Kernel(lambda: links, lambda _: None, behind)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "RETRY_S", 0.0)
    monkeypatch.setattr(choose, "addresses_of", lambda _: ("10.88.0.5",))  # of recorded processes


def names(source: PodSource) -> list[str]:
    return sorted(each.name for each in source.pods())


def auto(place: Path, kernel_: Kernel | None = None) -> AutoPods:
    return AutoPods(
        kernel_ or kernel(), [str(place / "none.sock"), str(place / "cri.sock")], [str(place / "docker.sock")]
    )


def test_nobody_is_asked_where_none_is_wanted() -> None:
    source = open_source(NONE, kernel())
    assert isinstance(source, NoPods)
    assert (source.pods(), described(source)) == ((), "nobody")
    assert "--cri none" in source.problem
    source.close()


def test_socket_is_cri_or_docker_by_who_answers(tmp_path: Path) -> None:
    cri, docker = tmp_path / "docker-like.sock", tmp_path / "other.sock"
    with fake_cri.serving(cri, Runtime(2)), fake_docker.serving(docker, FakeEngine()):
        first, second = open_source(str(cri), kernel()), open_source(str(docker), kernel())
        assert names(first) == ["pod-0", "pod-1"]
        assert names(second) == ["apart", "on-node", "web-0", "web-1"]
        assert described(first) == f"CRI at {cri} (fake 1.0)"
        assert described(second) == f"Docker at {docker} (Docker 20.10.24+dfsg1)"
        first.close()
        second.close()


def test_socket_that_nobody_serves_is_a_problem_until_somebody_does(tmp_path: Path) -> None:
    place = tmp_path / "runtime.sock"
    source = open_source(str(place), kernel())
    assert source.pods() == ()
    assert source.problem == f"container runtime at {place}: No such file or directory"
    assert described(source) == f"container runtime at {place}"
    with fake_docker.serving(place, FakeEngine()):
        assert len(source.pods()) == 4
        assert source.problem == ""
    source.close()


def test_socket_of_somebody_else_says_what_both_said(tmp_path: Path) -> None:
    place = tmp_path / "runtime.sock"
    runtime = Runtime()
    runtime.answers["Version"] = 12
    with fake_cri.serving(place, runtime):
        source = SocketPods(str(place))
        assert source.pods() == ()
        assert "CRI: it does not know CRI v1; Docker: " in source.problem
        assert source.is_other


def test_auto_asks_cri_and_docker_and_tells_a_pod_once(tmp_path: Path) -> None:
    engine = FakeEngine()
    with (
        fake_cri.serving(tmp_path / "cri.sock", Runtime(2)),
        fake_docker.serving(tmp_path / "docker.sock", engine),
    ):
        engine.named("web-1")["Id"] = "sandbox-0"
        engine.inspected["sandbox-0"] = {"State": {"Pid": 5}, "Name": "/doubled"}
        source = auto(tmp_path)
        assert names(source) == ["apart", "on-node", "pod-0", "pod-1", "web-0"]
        assert source.problem == ""
        assert described(source) == (
            f"CRI at {tmp_path / 'cri.sock'} (fake 1.0) and "
            f"Docker at {tmp_path / 'docker.sock'} (Docker 20.10.24+dfsg1)"
        )
        source.close()


def test_auto_leaves_out_a_runtime_without_cri(tmp_path: Path) -> None:
    runtime = Runtime()
    runtime.answers["Version"] = 12
    with fake_cri.serving(tmp_path / "cri.sock", runtime):
        source = auto(tmp_path)
        [found] = source.pods()
        assert (found.interface, source.problem) == ("veth1", "")
        with fake_docker.serving(tmp_path / "docker.sock", FakeEngine()):
            assert len(source.pods()) == 4
            assert source.problem == ""
            assert described(source).startswith("Docker at ")
        source.close()


def test_auto_says_that_a_runtime_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "docker.sock").write_text("")
    source = auto(tmp_path)
    assert source.pods() == ()
    assert source.problem == f"container runtime at {tmp_path / 'docker.sock'}: Connection refused"


def test_auto_without_a_runtime_asks_the_kernel_until_one_comes(tmp_path: Path) -> None:
    source = auto(tmp_path)
    assert source.pods() == (LocalPod("", "", "", addresses=("10.0.0.1",), interface="veth1"),)
    assert described(source) == "no container runtime: processes, routes and neighbours"
    with fake_cri.serving(tmp_path / "cri.sock", Runtime(1)):
        assert names(source) == ["pod-0"]
    (tmp_path / "cri.sock").unlink(missing_ok=True)
    assert [each.interface for each in source.pods()] == ["veth1"]
    source.close()


def test_auto_is_what_opens_without_a_path() -> None:
    assert isinstance(open_source(AUTO, kernel()), AutoPods)


def test_routes_are_the_pods_that_no_process_tells(tmp_path: Path) -> None:
    import os

    own = Kernel(
        lambda: [*LINKS, Interface("veth2", 2)],
        lambda pid: 1 if pid == os.getpid() else None,
        lambda: {"veth1": ["10.0.0.1"], "veth2": ["10.0.0.2"]},
    )
    found = {each.interface: each for each in auto(tmp_path, own).pods()}
    assert found["veth2"].addresses == ("10.0.0.2",)
    assert found["veth1"].pid in (0, os.getpid())  # 0: this process has no address but loopback


def test_interfaces_that_cannot_be_listed_are_a_problem(tmp_path: Path) -> None:
    def failing() -> Sequence[Interface]:
        raise OSError(1, "Operation not permitted")

    source = auto(tmp_path, Kernel(failing, lambda _: None, dict))
    assert source.pods() == ()
    assert source.problem == "interfaces: Operation not permitted"


def test_routes_that_cannot_be_read_are_a_problem() -> None:
    source = RoutePods(refused)
    assert source.pods() == ()
    assert source.problem == "routes and neighbours: Operation not permitted"
