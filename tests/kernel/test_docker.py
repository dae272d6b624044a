# SPDX-License-Identifier: Apache-2.0
"""Pods by a real Docker engine: plain containers, and sandboxes as cri-dockerd makes them."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.network.links import links
from agent.network.nsid import nsid_of
from collector.node.iptables_nat import parse_nat
from collector.node.nat import Backend, Service
from collector.node.pods.choose import AutoPods, Kernel, SocketPods, described
from collector.node.pods.docker import DockerPods
from collector.node.pods.local import LocalPod, with_interfaces
from collector.node.pods.processes import addresses_of
from overhop import own_pods
from tests.dockerd import POD, Dockerd, dockerd, populate

NOTHING = Kernel(tuple, lambda _: None, dict)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    with dockerd(tmp_path_factory.mktemp("docker")) as one:
        populate(one)
        yield one


@pytest.fixture
def pods(engine: Dockerd) -> Iterator[DockerPods]:
    one = DockerPods(str(engine.socket), addresses_of)
    yield one
    one.close()


def placed(engine: Dockerd, pods: DockerPods) -> dict[str, LocalPod]:
    with engine.space.entered():
        return {each.name: each for each in with_interfaces(pods.pods(), links(), nsid_of)}


def test_docker_tells_each_network_once_with_names_addresses_and_interface(
    engine: Dockerd, pods: DockerPods
) -> None:
    found = placed(engine, pods)
    assert pods.problem == ""
    assert sorted(found) == ["apart", "on-node", "web-0", "web-1"]
    plain, pod, on_node = found["web-1"], found["web-0"], found["on-node"]
    assert (found["apart"].addresses, found["apart"].interface) == ((), "")
    assert (plain.namespace, plain.workload, plain.addresses) == ("", "web", ("172.17.0.2",))
    assert plain.interface.startswith("veth")
    assert (pod.uid, pod.namespace, pod.labels) == (POD["io.kubernetes.pod.uid"], "shop", {"app": "web"})
    assert (pod.addresses, pod.interface) == (("10.88.0.5",), "cali1")
    assert (on_node.is_on_host_network, on_node.interface) == (True, "")


def test_docker_is_asked_about_what_was_started_meanwhile_only(engine: Dockerd, pods: DockerPods) -> None:
    before = placed(engine, pods)["web-1"]
    assert pods.asked == 4
    placed(engine, pods)
    assert pods.asked == 4
    engine.docker("restart", "--time=0", "web-1")
    after = placed(engine, pods)["web-1"]
    assert pods.asked == 5
    assert (after.pid, after.addresses) == (engine.pid("web-1"), before.addresses)
    assert after.pid != before.pid
    assert after.interface.startswith("veth")


def test_socket_is_known_by_what_answers(engine: Dockerd, tmp_path: Path) -> None:
    """The engine's own containerd, which it starts without CRI, stands for a runtime that cannot help."""
    link = tmp_path / "runtime.sock"
    link.symlink_to(engine.socket)
    source = SocketPods(str(link))
    assert len(source.pods()) == 4
    assert described(source) == f"Docker at {link} (Docker {engine.version()})"
    source.close()
    containerd = engine.socket.with_name("exec") / "containerd" / "containerd.sock"
    other = SocketPods(str(containerd))
    assert other.pods() == ()
    assert "CRI: it does not know CRI v1" in other.problem
    assert other.is_other
    together = AutoPods(NOTHING, [str(containerd)], [str(engine.socket)])
    assert len(together.pods()) == 4
    assert together.problem == ""
    assert described(together).startswith("Docker at ")
    together.close()


def test_pods_of_a_node_by_its_docker_socket(engine: Dockerd) -> None:
    with engine.space.entered():
        found = own_pods.read_own(str(engine.socket))
    assert found.source.startswith(f"Docker at {engine.socket} (Docker ")
    assert found.problem == ""
    assert {each.name for each in found.found if each.interface} == {"web-0", "web-1"}


def test_pod_without_its_runtime_is_told_by_its_process(engine: Dockerd) -> None:
    """As where the agent does not have the socket: uid by cgroup, address and interface by the kernel."""
    with engine.space.entered():
        found = {each.interface: each for each in AutoPods(own_pods.own_kernel(), [], []).pods()}
    pod = found["cali1"]
    assert (pod.uid, pod.addresses) == (POD["io.kubernetes.pod.uid"], ("10.88.0.5",))
    assert pod.sandbox == engine.docker("inspect", "--format", "{{.Id}}", "k8s_POD_web-0_shop_0")
    [plain] = [each for name, each in found.items() if name.startswith("veth")]
    assert (plain.uid, plain.name, plain.addresses) == ("", "", ("172.17.0.2",))


def test_inventory_names_interfaces_by_docker(engine: Dockerd) -> None:
    command = (sys.executable, "-m", "overhop", "inventory", "--json", "--nic=docker0")
    found = json.loads(engine.space.run((*command, "--cri", str(engine.socket))))
    vports = {each["pod"]: each for each in found["vports"]}
    assert sorted(vports) == ["web-0", "web-1"]
    assert (vports["web-0"]["namespace"], vports["web-0"]["name"]) == ("shop", "cali1")
    assert (vports["web-1"]["workload"], vports["web-1"]["addresses"]) == ("web", ["172.17.0.2"])
    assert found["pods_source"].startswith(f"Docker at {engine.socket} (Docker ")
    assert found["pods_problem"] == ""


def test_doctor_names_interfaces_by_docker(engine: Dockerd) -> None:
    command = (sys.executable, "-m", "overhop", "doctor", "--json", "--cri", str(engine.socket))
    with engine.space.entered():
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    facts = {each["subject"]: each["fact"] for each in json.loads(done.stdout)["findings"]}
    assert "shop/web-0" in facts["pods"]
    assert facts["pod names"].endswith("2 of 2")


def test_rules_of_docker_are_understood(engine: Dockerd) -> None:
    rules = parse_nat(engine.space.run(("iptables-save",)))
    assert rules.not_understood == 0
    published = Service("host-port", "", "tcp", "", 8080, (Backend("172.17.0.2", 80, 1.0),), "")
    assert [each for each in rules.services if each.port == 8080] == [published]
