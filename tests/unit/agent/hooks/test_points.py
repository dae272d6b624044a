# SPDX-License-Identifier: Apache-2.0
"""Which programs belong where."""

import pytest

from agent.hooks.points import Hook, wanted
from agent.network.links import ARPHRD_LOOPBACK, Link
from agent.network.nic import DiscoveryError
from agent.plan.model import Plan, VportPlan
from bpf.record import Point

ARPHRD_NONE = 65534
ETH0 = Link(2, "eth0")
WEB = Link(7, "veth-web", kind="veth", peer_ifindex=2, link_netnsid=0)
DB = Link(8, "veth-db", kind="veth", peer_ifindex=2, link_netnsid=1)


def plan(*nics: str, vports: tuple[VportPlan, ...] = ()) -> Plan:
    return Plan(nic=nics, vports=vports)


def test_wanted_nic_has_both_nic_points() -> None:
    found = wanted(plan("eth0"), [ETH0, WEB])
    assert dict(found.hooks) == {Hook(2, Point.NIC_IN): ETH0, Hook(2, Point.NIC_OUT): ETH0}
    assert (dict(found.vports), found.missing_nics) == ({}, ())


def test_wanted_vport_that_matches_has_both_vport_points_and_its_plan() -> None:
    web = VportPlan(match="veth-w*", pod="web")
    found = wanted(plan("eth0", vports=(web,)), [ETH0, WEB, DB])
    assert {hook for hook in found.hooks if hook.ifindex != 2} == {
        Hook(7, Point.VPORT_IN),
        Hook(7, Point.VPORT_OUT),
    }
    assert dict(found.vports) == {7: web}


def test_wanted_first_matching_entry_counts() -> None:
    first, second = VportPlan(match="veth-web", pod="web"), VportPlan(match="veth-*", pod="any")
    found = wanted(plan("eth0", vports=(first, second)), [ETH0, WEB, DB])
    assert dict(found.vports) == {7: first, 8: second}


def test_wanted_nic_is_never_a_vport() -> None:
    found = wanted(plan("eth0", vports=(VportPlan(match="*"),)), [ETH0, WEB])
    assert set(found.vports) == {7}


def test_wanted_interface_without_ethernet_header_is_no_vport() -> None:
    tunnel = Link(9, "veth-tun", arphrd=ARPHRD_NONE)
    found = wanted(plan("eth0", vports=(VportPlan(match="veth*"),)), [ETH0, tunnel])
    assert dict(found.vports) == {}


def test_wanted_loopback_counts_as_ethernet() -> None:
    loopback = Link(1, "lo", arphrd=ARPHRD_LOOPBACK)
    found = wanted(plan("eth0", vports=(VportPlan(match="lo"),)), [loopback, ETH0])
    assert set(found.vports) == {1}


def test_wanted_absent_nic_is_missing() -> None:
    found = wanted(plan("eth0", "eth9"), [ETH0])
    assert found.missing_nics == ("eth9",)
    assert {hook.ifindex for hook in found.hooks} == {2}


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (Link(2, "eth0", master=5), Link(5, "bond0", kind="bond")),
        (Link(2, "eth0"), Link(5, "eth0.7", kind="vlan", peer_ifindex=2)),
    ],
    ids=["bond", "vlan"],
)
def test_wanted_two_nics_that_see_the_same_packets_are_refused(lower: Link, upper: Link) -> None:
    with pytest.raises(DiscoveryError, match="see the same packets"):
        wanted(plan(lower.name, upper.name), [lower, upper])


def test_wanted_veth_nic_whose_peer_has_the_index_of_another_nic_is_no_vlan() -> None:
    up = Link(5, "up", kind="veth", peer_ifindex=2, link_netnsid=0)
    assert wanted(plan("eth0", "up"), [ETH0, up]).missing_nics == ()
