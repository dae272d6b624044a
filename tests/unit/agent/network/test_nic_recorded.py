# SPDX-License-Identifier: Apache-2.0
"""The NIC of nodes that were recorded on a kernel with bonds, VLANs and IPIP (tests/data/links/README.md)."""

import json
from pathlib import Path

import pytest

from agent.network import rtnetlink
from agent.network.addresses import parse_owners
from agent.network.links import Link, parse_links
from agent.network.nic import Nics, choose_nics
from agent.network.routes import Ways, parse_route

DATA = Path(__file__).parents[3] / "data" / "links"


def recorded(name: str) -> tuple[list[Link], Ways]:
    data = json.loads((DATA / f"{name}.json").read_text())
    bodies = {key: [bytes.fromhex(each) for each in data[key]] for key in ("links", "addresses")}
    routes = [bytes.fromhex(each) for key in ("routes", "routes6") for each in data[key]]
    header = rtnetlink._HEADER
    text = b"".join(header.pack(header.size + len(each), 16, 0, 0, 0) + each for each in bodies["links"])
    links = [link for _, link in parse_links(text)]
    ways = Ways(
        tuple(route for body in routes for route in parse_route(body)),
        parse_owners(bodies["addresses"]),
    )
    return links, ways


@pytest.mark.parametrize(
    ("name", "names", "reason", "kind"),
    [
        ("bond", ("bond0",), "default route", "bond"),
        ("vlan-on-bond", ("bond0.7",), "default route", "vlan"),
        ("vxlan-over-vlan", ("eth1.7",), "underlay of flannel.1", "vlan"),
        ("calico-ipip", ("eth1",), "underlay of tunl0", "veth"),
        ("gre-over-bond", ("bond0",), "underlay of gre1", "bond"),
        ("bridge", ("br0",), "default route", "bridge"),
        ("macvlan", ("mac0",), "default route", "macvlan"),
        ("two-default-routes", ("eth1",), "default route", "veth"),
    ],
)
def test_nic_of_a_recorded_node(name: str, names: tuple[str, ...], reason: str, kind: str) -> None:
    links, ways = recorded(name)
    assert choose_nics(links, ways) == Nics(names, reason)
    (nic,) = (link for link in links if link.name == names[0])
    assert nic.kind == kind


def test_recorded_bond_has_its_slaves_below_it() -> None:
    links, _ = recorded("vlan-on-bond")
    by_name = {link.name: link for link in links}
    bond = by_name["bond0"].ifindex
    assert (by_name["eth0"].master, by_name["eth1"].master) == (bond, bond)
    assert by_name["bond0.7"].peer_ifindex == bond
