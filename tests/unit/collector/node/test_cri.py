# SPDX-License-Identifier: Apache-2.0
"""CRI against a runtime that also says what a real one would not; tests/cluster has containerd."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.node.pods import grpc
from collector.node.pods.cri import CriPods
from collector.node.pods.local import LocalPod
from tests.fake_cri import Runtime, field, sandbox, serving, status


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cri.sock"


@pytest.fixture
def runtime(place: Path) -> Iterator[Runtime]:
    one = Runtime(3)
    with serving(place, one):
        yield one


@pytest.fixture
def pods(place: Path, runtime: Runtime) -> Iterator[CriPods]:
    assert runtime.pods
    one = CriPods(str(place))
    yield one
    one.close()


def test_pods_have_names_labels_addresses_process_and_interfaces(pods: CriPods) -> None:
    first, *_ = pods.pods()
    assert first == LocalPod(
        uid="uid-0",
        namespace="ns",
        name="pod-0",
        labels={"app": "app-0"},
        addresses=("10.244.0.2",),
        sandbox="sandbox-0",
        pid=1000,
        host_interfaces=("cni0", "veth00000000"),
        created_ns=1_700_000_000_000_000_000,
    )


def test_only_new_pods_are_asked_about(pods: CriPods, runtime: Runtime) -> None:
    assert len(pods.pods()) == 3
    runtime.pods[7] = None
    del runtime.pods[0]
    runtime.asked.clear()
    assert [each.name for each in pods.pods()] == ["pod-1", "pod-2", "pod-7"]
    assert runtime.asked == ["ListPodSandbox", "PodSandboxStatus"]


def test_pod_without_an_address_yet_is_asked_about_again(pods: CriPods, runtime: Runtime) -> None:
    runtime.answers["PodSandboxStatus"] = status(0, address="")
    assert pods.pods() == ()
    del runtime.answers["PodSandboxStatus"]
    assert len(pods.pods()) == 3


def test_pod_on_the_hosts_network_needs_no_address(pods: CriPods, runtime: Runtime) -> None:
    runtime.answers["PodSandboxStatus"] = status(0, address="", on_node=True)
    assert [each.is_on_host_network for each in pods.pods()] == [True, True, True]


def test_sandbox_that_is_over_is_no_pod(pods: CriPods, runtime: Runtime) -> None:
    runtime.answers["ListPodSandbox"] = field(1, sandbox(1)) + field(1, sandbox(2, state=1))
    assert [each.name for each in pods.pods()] == ["pod-1"]


@pytest.mark.parametrize("info", ["", "{", "[]", "5", '{"pid": "x"}', '{"cniResult": []}', "[" * 100_000])
def test_verbose_part_that_is_another_leaves_process_and_interface_out(
    pods: CriPods, runtime: Runtime, info: str
) -> None:
    runtime.answers["PodSandboxStatus"] = status(0, info=info)
    first, *_ = pods.pods()
    assert (first.addresses, first.pid, first.host_interfaces) == (("10.244.0.2",), 0, ())


@pytest.mark.parametrize("method", ["ListPodSandbox", "PodSandboxStatus"])
@pytest.mark.parametrize("answer", [b"\xff" * 20, b"\x0a\x7f", 13, 14])
def test_failure_is_a_problem_and_what_was_known_stays(
    pods: CriPods, runtime: Runtime, method: str, answer: bytes | int
) -> None:
    assert len(pods.pods()) == 3
    runtime.pods[9] = None
    runtime.answers[method] = answer
    assert len(pods.pods()) == 3
    assert pods.problem.startswith("CRI at ")
    runtime.answers.clear()
    assert len(pods.pods()) == 4
    assert pods.problem == ""


def test_pod_that_goes_between_list_and_status_is_no_failure(pods: CriPods, runtime: Runtime) -> None:
    runtime.answers["PodSandboxStatus"] = 5
    assert pods.pods() == ()
    assert pods.problem == ""


def test_runtime_that_ends_and_comes_back(place: Path) -> None:
    one = CriPods(str(place))
    with serving(place, Runtime(2)):
        assert len(one.pods()) == 2
    assert len(one.pods()) == 2
    assert one.problem
    with serving(place, Runtime(4)):
        assert len(one.pods()) == 4
    assert one.problem == ""
    one.close()


def test_runtime_that_says_nothing_is_given_up_in_time(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr(grpc, "TIMEOUT_S", 0.2)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place))
        silent.listen()
        one = CriPods(str(place))
        one._channel._timeout_s = 0.2
        assert one.pods() == ()
        assert "in time" in one.problem or "timed out" in one.problem
        one.close()


def test_runtime_without_cri_v1_is_said(place: Path) -> None:
    runtime = Runtime()
    runtime.answers["Version"] = 12
    with serving(place, runtime):
        one = CriPods(str(place))
        with pytest.raises(grpc.GrpcError, match="it does not know CRI v1"):
            one.version()
        one.close()
