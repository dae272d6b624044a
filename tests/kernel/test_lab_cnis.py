# SPDX-License-Identifier: Apache-2.0
"""What every CNI of the lab must do alike, and what each does in its own way."""

from collections.abc import Iterator

import pytest

from overhop.lab import Host, Lab, Service
from overhop.lab.options import Cni
from tests.kernel.tap import tap
from tests.require import require_commands

CNIS: tuple[Cni, ...] = ("vxlan", "vxlan6", "ipip")


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool")


class City:
    """A client and a neighbour on n1, a server on n2, a host outside."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.n1, self.n2 = lab.nodes
        self.client, self.neighbour = self.n1.pod("client"), self.n1.pod("neighbour")
        self.server = self.n2.pod("server")
        for host in (self.neighbour, self.server, lab.external):
            host.serve_http(80)
        self.n2.serve_http(8080)
        self.web = lab.service("web", backends=[self.server], node_port=30080)
        self.own = lab.service("own", backends=[self.neighbour])


@pytest.fixture(scope="module", params=CNIS)
def city(request: pytest.FixtureRequest) -> Iterator[City]:
    with Lab.make(request.param) as lab:
        yield City(lab)


def answered_by(client: Host, target: Host | Service, port: int | None = None) -> set[str]:
    return set(client.http(target, port, requests=3, timeout_s=5.0).require_ok().bodies)


def test_pod_to_pod_on_other_node_is_answered(city: City) -> None:
    assert answered_by(city.client, city.server) == {"server"}


def test_pod_to_pod_on_same_node_stays_on_the_node(city: City) -> None:
    with tap(city.lab.wire, "n1") as frames:
        assert answered_by(city.client, city.neighbour) == {"neighbour"}
    assert not [frame for frame in frames if b"traceparent" in frame]


def test_service_address_reaches_its_back_end_on_other_and_on_same_node(city: City) -> None:
    assert answered_by(city.client, city.web) == {"server"}
    assert answered_by(city.client, city.own) == {"neighbour"}


def test_pod_reaches_itself_through_its_own_service(city: City) -> None:
    assert answered_by(city.neighbour, city.own) == {"neighbour"}


def test_external_to_node_port_of_either_node_is_answered(city: City) -> None:
    assert answered_by(city.lab.external, city.n1, port=30080) == {"server"}
    assert answered_by(city.lab.external, city.n2, port=30080) == {"server"}


def test_host_network_client_reaches_pods_and_services(city: City) -> None:
    assert answered_by(city.n1, city.neighbour) == {"neighbour"}
    assert answered_by(city.n1, city.server) == {"server"}
    assert answered_by(city.n1, city.web) == {"server"}


def test_pod_reaches_host_network_server_on_both_nodes_and_the_host_outside(city: City) -> None:
    assert answered_by(city.client, city.n2, port=8080) == {"n2"}
    assert answered_by(city.server, city.n2, port=8080) == {"n2"}
    assert answered_by(city.client, city.lab.external) == {"external"}


def test_large_bodies_pass_in_both_directions_of_segmentation(city: City) -> None:
    city.client.http(city.server, requests=50, connections=4, body_bytes=200_000).require_ok()
    city.client.http(city.web, requests=50, connections=4, body_bytes=200_000).require_ok()


def test_pods_have_one_address_only_and_it_is_the_one_to_call(city: City) -> None:
    assert city.server.addresses == [str(city.server.address)]
    assert city.web.addresses == [str(city.web.vip)]
    assert city.n1.addresses == [str(city.n1.address)]
    families = {thing.version for thing in (city.server.address, city.n1.address, city.web.vip)}
    assert families == {6 if city.lab.options.cni == "vxlan6" else 4}
