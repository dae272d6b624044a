# SPDX-License-Identifier: Apache-2.0
"""The lab's IPIP on the wire, and beside an agent's programs."""

from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from agent.hooks import attach, tc
from agent.hooks.sweep import sweep
from agent.network.links import link_by_name
from bpf.record import Point
from overhop.lab import Lab
from tests.kernel.counting import Counting
from tests.kernel.tap import tap
from tests.require import require_commands

ETHERNET, IPV4 = 14, 20
OUTER, INNER = ETHERNET, ETHERNET + IPV4
DONT_FRAGMENT = 0x4000


class City:
    """A client on n1, a server on n2."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.n1, self.n2 = lab.nodes
        self.client, self.server = self.n1.pod("client"), self.n2.pod("server")
        self.server.serve_http(80)
        lab.external.serve_http(80)
        lab.service("web", backends=[self.server], node_port=30080)


@pytest.fixture(scope="module")
def city() -> Iterator[City]:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool")
    with Lab.make("ipip") as lab:
        yield City(lab)


def requests_in(frames: list[bytes]) -> list[bytes]:
    return [frame for frame in frames if b"traceparent" in frame]


def number(frame: bytes, at: int) -> int:
    return int.from_bytes(frame[at : at + 2], "big")


def address(frame: bytes, at: int) -> IPv4Address:
    return IPv4Address(frame[at : at + 4])


def test_request_between_nodes_has_one_correct_outer_header(city: City) -> None:
    with tap(city.lab.wire, "n2") as frames:
        city.client.http(city.server, requests=3).require_ok()
    requests = requests_in(frames)
    assert len(requests) == 3
    for frame in requests:
        assert frame[OUTER] == 0x45
        assert frame[OUTER + 9] == 4
        assert number(frame, OUTER + 2) == len(frame) - ETHERNET
        assert number(frame, OUTER + 6) == DONT_FRAGMENT
        total = sum(number(frame, OUTER + at) for at in range(0, IPV4, 2))
        assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
        assert (address(frame, OUTER + 12), address(frame, OUTER + 16)) == (city.n1.address, city.n2.address)
        assert number(frame, INNER + 2) == len(frame) - INNER
        assert address(frame, INNER + 12) == city.client.address
        assert address(frame, INNER + 16) == city.server.address


def test_what_is_not_for_a_pod_of_another_node_is_not_encapsulated(city: City) -> None:
    with tap(city.lab.external.netns, "eth0") as frames:
        city.client.http(city.lab.external, requests=3).require_ok()
    sources = {(frame[OUTER + 9], address(frame, OUTER + 12)) for frame in requests_in(frames)}
    assert sources == {(6, city.n1.address)}


def test_external_to_node_port_is_masqueraded_with_the_tunnel_s_address(city: City) -> None:
    with tap(city.server.netns, "eth0") as frames:
        city.lab.external.http(city.n1, port=30080, requests=3).require_ok()
    assert {address(frame, OUTER + 12) for frame in requests_in(frames)} == {IPv4Address("10.244.1.0")}


def test_node_talks_to_pods_of_other_nodes_from_the_tunnel_s_address(city: City) -> None:
    with tap(city.server.netns, "eth0") as frames:
        city.n1.http(city.server, requests=3).require_ok()
        city.n1.http(city.lab.services[0], requests=3).require_ok()
    assert {address(frame, OUTER + 12) for frame in requests_in(frames)} == {IPv4Address("10.244.1.0")}


def test_pod_is_routed_as_calico_does_it(city: City) -> None:
    assert city.client.vport.startswith("cali")
    assert len(city.client.vport) == 15
    assert f"10.244.1.2 dev {city.client.vport} scope link" in city.n1.run("ip", "route")
    assert "default via 169.254.1.1 dev eth0" in city.client.run("ip", "route")
    assert city.n1.run("ip", "link", "show", "type", "bridge") == ""
    assert " mtu 1480 " in city.client.run("ip", "link", "show", "eth0")


def test_super_packets_stay_whole_on_the_wire(city: City) -> None:
    with tap(city.lab.wire, "n2") as frames:
        city.client.http(city.server, requests=5, body_bytes=30_000).require_ok()
    assert max(map(len, frames)) > 10_000


def test_offloads_off_no_super_packet_on_any_device() -> None:
    with Lab.make("ipip", offloads=False) as lab:
        city = City(lab)
        with tap(lab.wire, "n2") as outer, tap(city.server.netns, "eth0") as inner:
            city.client.http(city.server, requests=5, body_bytes=30_000).require_ok()
        assert max(map(len, outer)) == 1514
        assert max(map(len, inner)) == 1494


@pytest.mark.usefixtures("no_leaks")
def test_agent_in_clsact_mode_comes_first_and_its_sweep_leaves_the_lab_alone(
    city: City, counting: Counting
) -> None:
    with city.n2.netns.entered():
        nic = link_by_name("eth0")
        assert nic is not None
        before = tc.filters(nic.ifindex, tc.INGRESS)
        made = attach.attach(nic, Point.NIC_IN, counting.program(Point.NIC_IN), "clsact")
        try:
            assert made.shadowed_by() is None
            assert next(found.prio for found in tc.filters(nic.ifindex, tc.INGRESS)) == 1
            city.client.http(city.server, requests=3).require_ok()
            assert counting.count(Point.NIC_IN) >= 3
            assert any("overhop:nic-in" in line for line in sweep())
        finally:
            made.detach()
        assert tc.filters(nic.ifindex, tc.INGRESS) == before
    city.client.http(city.server, requests=3).require_ok()
