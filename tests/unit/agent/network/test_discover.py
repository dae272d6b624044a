# SPDX-License-Identifier: Apache-2.0
import pytest

from agent.network.discover import DiscoveryError, completed, find_nic, find_vports
from agent.network.links import ARPHRD_LOOPBACK, Link
from agent.plan.model import Plan, VportPlan

LO = Link(1, "lo", arphrd=ARPHRD_LOOPBACK)
ETH0 = Link(2, "eth0", default_route=True)
ETH1 = Link(3, "eth1")
BRIDGE = Link(4, "cni0", kind="bridge")
VXLAN = Link(5, "flannel.1", kind="vxlan")
POD = Link(6, "veth1a2b", kind="veth", peer_ifindex=2, link_netnsid=0)
LOCAL_VETH = Link(7, "veth-here", kind="veth", peer_ifindex=8)


def test_find_nic_takes_the_device_of_the_default_route() -> None:
    assert find_nic([LO, ETH1, ETH0, POD]) == "eth0"
    lab_nic = Link(9, "n1-eth0", kind="veth", link_netnsid=3, default_route=True)
    assert find_nic([LO, ETH1, lab_nic]) == "n1-eth0"


def test_find_nic_without_default_route_takes_the_only_hardware_device() -> None:
    assert find_nic([LO, ETH1, BRIDGE, VXLAN, POD]) == "eth1"


def test_find_nic_with_several_hardware_devices_names_them() -> None:
    with pytest.raises(DiscoveryError, match=r"several could be it: eth1, eth2: name it in the plan"):
        find_nic([LO, ETH1, Link(9, "eth2")])


def test_find_nic_with_none_says_so() -> None:
    with pytest.raises(DiscoveryError, match="no default route, and no interface is hardware"):
        find_nic([LO, POD])


def test_find_vports_takes_veths_into_other_namespaces_only() -> None:
    assert find_vports([LO, ETH0, BRIDGE, VXLAN, POD, LOCAL_VETH], ["eth0"]) == (
        VportPlan(match="veth1a2b", pod="veth1a2b"),
    )


def test_find_vports_leaves_a_veth_out_that_is_the_nic() -> None:
    assert find_vports([POD], ["veth1a2b"]) == ()


def test_find_vports_of_a_name_with_pattern_characters_fits_only_itself() -> None:
    (vport,) = find_vports([Link(9, "veth[1]", kind="veth", link_netnsid=0)], [])
    plan = Plan(vports=(vport,))
    assert plan.vport_for("veth[1]") == vport
    assert plan.vport_for("veth1") is None


def test_completed_keeps_what_the_plan_names() -> None:
    plan = Plan(nic=("eth1",), vports=(VportPlan(match="cali*"),))
    assert completed(plan, [ETH0, POD]) == plan


def test_completed_of_a_plan_without_vports_traces_none() -> None:
    assert completed(Plan(vports=()), [ETH0, POD]) == Plan(nic=("eth0",), vports=())


def test_completed_of_an_empty_plan_finds_both() -> None:
    assert completed(Plan(), [ETH0, POD]) == Plan(
        nic=("eth0",), vports=(VportPlan(match="veth1a2b", pod="veth1a2b"),)
    )
