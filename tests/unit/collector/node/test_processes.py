# SPDX-License-Identifier: Apache-2.0
"""Pods by /proc, of a /proc made for the test; tests/kernel/test_node_pods.py has the kernel's."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from collector.node.pods.local import LocalPod
from collector.node.pods.processes import (
    FIRST_SETTLED_S,
    FULL_SCAN_S,
    SETTLED_S,
    ProcessPods,
    ipv4_addresses,
    ipv6_addresses,
    is_static,
    owner,
)

UID = "0f8fad5b-d9cb-469f-a165-70867728950e"
SLICE_UID = UID.replace("-", "_")
STATIC = "94f4e4d2d8ca3a5d8a2b7b4d8fe5a6c1"
ID = "28d58e7b2e9c89e79347a46ee3e47675c02cd06a24f17d3d03c25bb09786c5b3"
FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.244.1.0/24 2 0 1
        |-- 10.244.1.0
           /24 link UNICAST
        |-- 10.244.1.7
           /32 host LOCAL
        |-- 10.244.1.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
Local:
  +-- 0.0.0.0/0 3 0 5
        |-- 10.244.1.7
           /32 host LOCAL
        |-- 192.168.3.4
           /32 host LOCAL
        |-- 169.254.1.1
           /32 host LOCAL
"""
IF_INET6 = """\
00000000000000000000000000000001 01 80 10 80       lo
fd000244000000000000000000000007 02 40 00 80     eth0
fe800000000000004c1e77fffe3f0102 02 40 20 80     eth0
"""


@pytest.mark.parametrize(
    ("cgroup", "uid", "sandbox"),
    [
        (f"0::/kubepods/burstable/pod{UID}/{ID}\n", UID, ID),
        (f"0::/kubepods/pod{UID}\n", UID, ""),
        (
            f"0::/kubepods.slice/kubepods-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope\n",
            UID,
            ID,
        ),
        (
            "11:memory:/kubepods.slice/kubepods-besteffort.slice/"
            f"kubepods-besteffort-pod{SLICE_UID}.slice/crio-{ID}.scope\n1:name=systemd:/\n",
            UID,
            ID,
        ),
        (f"0::/../../kubepods-burstable-pod{SLICE_UID}.slice/cri-containerd-{ID}.scope\n", UID, ID),
        (f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{SLICE_UID}.slice\n", UID, ""),
        (f"9:pids:/kubepods/besteffort/pod{UID}/{ID}\n0::/\n", UID, ID),
        (f"0::/kubepods/burstable/pod{STATIC}/{ID}\n", STATIC, ID),
        (f"0::/system.slice/docker-{ID}.scope\n", "", ID),
        (f"1:cpu:/docker/{ID}\n", "", ID),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "", ""),
        (f"0::/kubepods/burstable/pod{UID}extra\n", "", ""),
        (f"0::/pods/{ID}{ID}\n", "", ""),
        ("", "", ""),
    ],
)
def test_owner_of_a_cgroup_is_told_for_every_driver(cgroup: str, uid: str, sandbox: str) -> None:
    assert owner(cgroup) == LocalPod(uid, "", "", sandbox=sandbox)


def test_uid_of_a_static_pod_is_another_than_the_apis() -> None:
    assert is_static(STATIC)
    assert not is_static(UID)


def test_addresses_are_the_namespaces_own_without_loopback_and_link_local() -> None:
    assert ipv4_addresses(FIB_TRIE) == ("10.244.1.7", "192.168.3.4")
    assert ipv6_addresses(IF_INET6) == ("fd00:244::7",)


@pytest.mark.parametrize(
    "text", ["", "x", "|-- \n/32 host LOCAL", "|-- 1.2.3.999\n/32 host LOCAL", "\ufffd" * 50]
)
def test_addresses_of_what_is_no_table_are_none(text: str) -> None:
    assert ipv4_addresses(text) == ()
    assert ipv6_addresses(text) == ()
    assert ipv6_addresses("xyz 02 40 00 80 eth0\n" + "f" * 40 + " 02 40 00 80 eth0") == ()


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    link_netnsid: int | None = None


@dataclass
class Node:
    """A /proc with processes, and the interfaces of the node."""

    proc: Path
    now_s: float = 100.0
    nsids: dict[int, int] = field(default_factory=dict)
    links: list[Interface] = field(default_factory=lambda: [Interface("eth0")])
    asked: list[int] = field(default_factory=list)

    def process(self, pid: int, nsid: int | None, cgroup: str = "", address: str = "10.0.0.1") -> None:
        place = self.proc / str(pid)
        (place / "net").mkdir(parents=True)
        (place / "cgroup").write_text(cgroup)
        if nsid is not None:
            self.nsids[pid] = nsid
            self.address(pid, address)

    def address(self, pid: int, address: str) -> None:
        text = f"|-- {address}\n   /32 host LOCAL\n" if address else ""
        (self.proc / str(pid) / "net" / "fib_trie").write_text(text)

    def end(self, pid: int) -> None:
        (self.proc / str(pid)).rename(self.proc / f"gone-{pid}")
        self.nsids.pop(pid, None)

    def nsid_of(self, pid: int) -> int | None:
        self.asked.append(pid)
        return self.nsids.get(pid)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "self").mkdir()
    one = Node(proc)
    one.process(1, None)
    one.process(2, None)
    return one


@pytest.fixture
def pods(node: Node) -> ProcessPods:
    return ProcessPods(lambda: node.links, node.nsid_of, str(node.proc), lambda: node.now_s)


def pod_with(node: Node, nsid: int, pid: int, address: str = "10.0.0.1") -> None:
    node.links.append(Interface(f"veth{nsid}", nsid))
    node.process(pid, nsid, f"0::/kubepods/pod{UID}/{ID}\n", address)


def test_nobody_is_asked_for_where_no_interface_leads_elsewhere(node: Node, pods: ProcessPods) -> None:
    assert pods.pods() == ()
    assert node.asked == []


def test_namespace_is_one_pod_by_the_first_process_that_a_pod_owns(node: Node, pods: ProcessPods) -> None:
    node.process(40, 3, "0::/system.slice/plugin.service\n")
    pod_with(node, 3, 50)
    node.process(60, 3, f"0::/kubepods/pod{UID}/{'a' * 64}\n")
    node.process(70, 4)
    assert pods.pods() == (LocalPod(UID, "", "", addresses=("10.0.0.1",), sandbox=ID, pid=50),)


def test_processes_of_the_first_look_are_old_soon(node: Node, pods: ProcessPods) -> None:
    node.links.append(Interface("veth3", 3))
    pods.pods()
    node.asked.clear()
    node.now_s += FIRST_SETTLED_S
    node.process(3, None)
    pods.pods()
    assert node.asked == [3]


def test_processes_are_asked_for_once_while_everybody_is_found(node: Node, pods: ProcessPods) -> None:
    pod_with(node, 3, 50)
    pods.pods()
    node.now_s += SETTLED_S + 1
    assert len(pods.pods()) == 1
    node.asked.clear()
    node.process(80, None)
    assert len(pods.pods()) == 1
    assert node.asked == []
    pod_with(node, 5, 90, "10.0.0.2")
    assert [each.addresses for each in pods.pods()] == [("10.0.0.1",), ("10.0.0.2",)]
    assert {80, 90} <= set(node.asked)


def test_process_that_enters_its_namespace_late_is_found(node: Node, pods: ProcessPods) -> None:
    node.links.append(Interface("veth3", 3))
    node.process(50, None)
    assert pods.pods() == ()
    node.nsids[50] = 3
    node.address(50, "10.0.0.1")
    assert len(pods.pods()) == 1


def test_namespace_that_is_connected_later_is_found_by_a_full_look(node: Node, pods: ProcessPods) -> None:
    node.process(50, None)
    node.links.append(Interface("veth3", 3))
    pods.pods()
    node.now_s += SETTLED_S + FULL_SCAN_S
    node.nsids[50] = 3
    node.address(50, "10.0.0.1")
    assert len(pods.pods()) == 1


def test_all_processes_are_looked_at_now_and_then_only(node: Node, pods: ProcessPods) -> None:
    node.links.append(Interface("veth3", 3))
    pods.pods()
    node.now_s += SETTLED_S + FULL_SCAN_S
    pods.pods()
    node.asked.clear()
    node.now_s += 1
    pods.pods()
    assert node.asked == []


def test_pod_without_an_address_yet_is_looked_at_again(node: Node, pods: ProcessPods) -> None:
    pod_with(node, 3, 50, "")
    assert pods.pods() == ()
    node.address(50, "10.0.0.9")
    assert [each.addresses for each in pods.pods()] == [("10.0.0.9",)]


def test_second_address_of_a_young_pod_is_told(node: Node, pods: ProcessPods) -> None:
    pod_with(node, 3, 50)
    pods.pods()
    (node.proc / "50" / "net" / "if_inet6").write_text(IF_INET6)
    assert [each.addresses for each in pods.pods()] == [("10.0.0.1", "fd00:244::7")]


def test_pod_ends_with_its_interface_and_another_process_takes_over(node: Node, pods: ProcessPods) -> None:
    pod_with(node, 3, 50)
    node.process(60, 3, f"0::/kubepods/pod{UID}/{'a' * 64}\n")
    pods.pods()
    node.end(50)
    assert [each.pid for each in pods.pods()] == [60]
    node.links.pop()
    assert pods.pods() == ()


def test_same_number_is_another_process(node: Node, pods: ProcessPods) -> None:
    pod_with(node, 3, 50)
    pods.pods()
    node.now_s += SETTLED_S + 1
    node.end(50)
    node.process(50, 3, "", "10.0.0.2")
    assert [(each.uid, each.addresses) for each in pods.pods()] == [("", ("10.0.0.2",))]


def test_proc_that_is_not_there_is_a_problem(node: Node) -> None:
    pods = ProcessPods(lambda: [Interface("v", 1)], node.nsid_of, str(node.proc / "none"))
    assert pods.pods() == ()
    assert pods.problem == "processes: No such file or directory"
