# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass

import pytest

from agent.discover import DiscoveryError, completed, find_nics, find_vports
from agent.plan import Plan, VportPlan


@dataclass(frozen=True)
class Link:
    name: str
    kind: str = ""
    link_netnsid: int | None = None
    is_ethernet: bool = True
    default_route: bool = False


LO = Link("lo", is_ethernet=False)
ETH0 = Link("eth0", default_route=True)
ETH1 = Link("eth1")
BRIDGE = Link("cni0", kind="bridge")
VXLAN = Link("flannel.1", kind="vxlan")
POD = Link("veth1a2b", kind="veth", link_netnsid=0)
LOCAL_VETH = Link("veth-here", kind="veth")


def test_find_nics_takes_the_devices_of_the_default_route() -> None:
    assert find_nics([LO, ETH1, ETH0, POD]) == ("eth0",)
    veth_nic = Link("n1-eth0", kind="veth", link_netnsid=3, default_route=True)
    assert find_nics([LO, ETH1, veth_nic]) == ("n1-eth0",)


def test_find_nics_without_default_route_takes_the_only_hardware_device() -> None:
    assert find_nics([LO, ETH1, BRIDGE, VXLAN, POD]) == ("eth1",)


def test_find_nics_with_several_hardware_devices_names_them() -> None:
    with pytest.raises(DiscoveryError, match=r"several devices could be it: eth1, eth2: name it in the plan"):
        find_nics([LO, ETH1, Link("eth2")])


def test_find_nics_with_none_says_so() -> None:
    with pytest.raises(DiscoveryError, match="no default route, and no device could be it"):
        find_nics([LO, POD])


def test_find_vports_takes_veths_into_other_namespaces_only() -> None:
    assert find_vports([LO, ETH0, BRIDGE, VXLAN, POD, LOCAL_VETH], ["eth0"]) == (
        VportPlan(match="veth1a2b", pod="veth1a2b"),
    )


def test_find_vports_leaves_a_veth_out_that_is_the_nic() -> None:
    assert find_vports([POD], ["veth1a2b"]) == ()


def test_find_vports_of_a_name_with_pattern_characters_fits_only_itself() -> None:
    (vport,) = find_vports([Link("veth[1]", kind="veth", link_netnsid=0)], [])
    plan = Plan(vports=(vport,))
    assert plan.vport_for("veth[1]") == vport
    assert plan.vport_for("veth1") is None


def test_completed_keeps_what_the_plan_names() -> None:
    plan = Plan(nic=("eth1",), vports=(VportPlan(match="cali*"),))
    assert completed(plan, [ETH0, POD]) == plan


def test_completed_of_an_empty_plan_finds_both() -> None:
    assert completed(Plan(), [ETH0, POD]) == Plan(
        nic=("eth0",), vports=(VportPlan(match="veth1a2b", pod="veth1a2b"),)
    )
