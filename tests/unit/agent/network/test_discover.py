# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_network

from agent.network.discover import completed, find_vports
from agent.network.links import ARPHRD_LOOPBACK, Link
from agent.network.routes import Hop, Route, Ways
from agent.plan.model import Plan, VportPlan

LO = Link(1, "lo", arphrd=ARPHRD_LOOPBACK)
ETH0 = Link(2, "eth0")
BRIDGE = Link(4, "cni0", kind="bridge")
VXLAN = Link(5, "flannel.1", kind="vxlan")
POD = Link(6, "veth1a2b", kind="veth", peer_ifindex=2, link_netnsid=0)
WAYS = Ways((Route(ip_network("0.0.0.0/0"), (Hop(2),)),))
LOCAL_VETH = Link(7, "veth-here", kind="veth", peer_ifindex=8)


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
    assert completed(plan, [ETH0, POD], lambda: WAYS) == plan


def test_completed_of_a_plan_without_vports_traces_none() -> None:
    assert completed(Plan(vports=()), [ETH0, POD], lambda: WAYS) == Plan(nic=("eth0",), vports=())


def test_completed_of_an_empty_plan_finds_both() -> None:
    assert completed(Plan(), [ETH0, POD], lambda: WAYS) == Plan(
        nic=("eth0",), vports=(VportPlan(match="veth1a2b", pod="veth1a2b"),)
    )
