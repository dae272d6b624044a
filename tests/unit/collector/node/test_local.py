# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass

from collector.node.pods.local import LocalPod, shared_addresses, with_interfaces


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    link_netnsid: int | None = None


LINKS = [
    Interface("eth0"),
    Interface("cni0"),
    Interface("veth1", 1),
    Interface("veth2", 2),
    Interface("net2", 2),
]


def _interface(pod: LocalPod, nsids: dict[int, int]) -> str:
    [found] = with_interfaces([pod], LINKS, nsids.get)
    return found.interface


def _pod(*interfaces: str, pid: int = 0) -> LocalPod:
    return LocalPod("u", "ns", "p", addresses=("10.0.0.1",), pid=pid, host_interfaces=interfaces)


def test_interface_that_the_runtime_names_and_that_is_there() -> None:
    assert _interface(_pod("cni0", "veth1"), {}) == "veth1"


def test_interface_by_the_namespace_of_the_process_where_nobody_names_it() -> None:
    assert _interface(_pod(pid=10), {10: 1}) == "veth1"
    assert _interface(_pod(pid=10), {}) == ""


def test_two_interfaces_of_one_pod_are_told_apart_by_name_only() -> None:
    assert _interface(_pod(pid=20), {20: 2}) == ""
    assert _interface(_pod("cni0", "net2", pid=20), {20: 2}) == "net2"


def test_pod_on_the_hosts_network_has_none() -> None:
    [found] = with_interfaces([LocalPod("u", "ns", "p", is_on_host_network=True, pid=10)], LINKS, {10: 1}.get)
    assert found.interface == ""


def test_address_of_two_pods_is_told() -> None:
    one, other = (
        LocalPod("1", "a", "x", addresses=("10.0.0.1",)),
        LocalPod("2", "b", "y", addresses=("10.0.0.1",)),
    )
    on_host = LocalPod("3", "c", "z", addresses=("10.0.0.1",), is_on_host_network=True)
    assert shared_addresses([one, other, on_host]) == {"10.0.0.1": ("a/x", "b/y")}
