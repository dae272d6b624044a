# SPDX-License-Identifier: Apache-2.0
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
import yaml

from agent.plan.model import load_plan, parse_plan
from overhop.lab import Host, Lab, LabError, Service, drops, netns, sweep
from tests.kernel.tap import tap
from tests.require import require_commands

ETH_IP, ETH_UDP, ETH_VXLAN, INNER_IP = 14, 34, 42, 64
PORT_8472 = 8472


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool")


class City:
    """The lab most tests share."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.n1, self.n2 = lab.nodes
        self.client = self.n1.pod("client", namespace="shop")
        self.neighbour = self.n1.pod("neighbour", namespace="shop")
        self.server = self.n2.pod("server", namespace="shop", workload="web")
        self.second = self.n2.pod("second", namespace="shop", workload="web")
        for host in (self.neighbour, self.server, self.second, self.lab.external):
            host.serve_http(80)
        self.n2.serve_http(8080)
        self.web = lab.service("web", backends=[self.server], node_port=30080)
        self.both = lab.service("both", backends=[self.server, self.second])
        self.own = lab.service("own", backends=[self.neighbour])


@pytest.fixture(scope="module")
def city() -> Iterator[City]:
    with Lab.make(nodes=2, ipv6=True) as lab:
        yield City(lab)


def source_of(frame: bytes, ip_offset: int) -> IPv4Address:
    return IPv4Address(frame[ip_offset + 12 : ip_offset + 16])


def answered_by(
    client: Host, target: Host | Service, port: int | None = None, ipv6: bool = False
) -> set[str]:
    result = client.http(target, port, ipv6=ipv6, requests=3, timeout_s=5.0).require_ok()
    return set(result.bodies)


@pytest.mark.parametrize("ipv6", [False, True])
def test_pod_to_pod_on_other_node_is_answered_over_vxlan(city: City, ipv6: bool) -> None:
    with tap(city.lab.wire, "n2") as frames:
        assert answered_by(city.client, city.server, ipv6=ipv6) == {"server"}
    requests = [frame for frame in frames if b"traceparent" in frame]
    assert len(requests) == 3
    for frame in requests:
        assert source_of(frame, ETH_IP) == city.n1.address
        assert int.from_bytes(frame[ETH_UDP + 2 : ETH_UDP + 4], "big") == PORT_8472
        assert frame[ETH_VXLAN : ETH_VXLAN + 8] == bytes.fromhex("0800000000000100")


@pytest.mark.parametrize("ipv6", [False, True])
def test_pod_to_pod_on_same_node_stays_on_the_node(city: City, ipv6: bool) -> None:
    with tap(city.lab.wire, "n1") as frames:
        assert answered_by(city.client, city.neighbour, ipv6=ipv6) == {"neighbour"}
    assert not [frame for frame in frames if b"traceparent" in frame]


@pytest.mark.parametrize("ipv6", [False, True])
def test_service_address_reaches_its_back_end(city: City, ipv6: bool) -> None:
    assert answered_by(city.client, city.web, ipv6=ipv6) == {"server"}


def test_service_with_two_back_ends_uses_both(city: City) -> None:
    result = city.client.http(city.both, requests=60, requests_per_connection=1).require_ok()
    assert set(result.bodies) == {"server", "second"}


@pytest.mark.parametrize("ipv6", [False, True])
def test_pod_reaches_itself_through_its_own_service(city: City, ipv6: bool) -> None:
    assert answered_by(city.neighbour, city.own, ipv6=ipv6) == {"neighbour"}


@pytest.mark.parametrize("ipv6", [False, True])
def test_same_node_service_is_translated_back(city: City, ipv6: bool) -> None:
    assert answered_by(city.client, city.own, ipv6=ipv6) == {"neighbour"}


@pytest.mark.parametrize("ipv6", [False, True])
def test_external_to_node_port_goes_on_to_the_other_node(city: City, ipv6: bool) -> None:
    with tap(city.lab.wire, "n2") as frames:
        assert answered_by(city.lab.external, city.n1, port=30080, ipv6=ipv6) == {"server"}
    requests = [frame for frame in frames if b"traceparent" in frame]
    assert {source_of(frame, ETH_IP) for frame in requests} == {city.n1.address}


def test_external_to_node_port_is_masqueraded_by_the_first_node(city: City) -> None:
    with tap(city.server.netns, "eth0") as frames:
        answered_by(city.lab.external, city.n1, port=30080)
    (source,) = {source_of(frame, ETH_IP) for frame in frames if b"traceparent" in frame}
    assert source == IPv4Address("10.244.1.0")


def test_pod_to_external_is_masqueraded_as_its_node(city: City) -> None:
    with tap(city.lab.external.netns, "eth0") as frames:
        assert answered_by(city.client, city.lab.external) == {"external"}
    assert {source_of(frame, ETH_IP) for frame in frames if b"traceparent" in frame} == {city.n1.address}


def test_host_network_client_reaches_pods_and_services(city: City) -> None:
    assert answered_by(city.n1, city.neighbour) == {"neighbour"}
    assert answered_by(city.n1, city.server) == {"server"}
    assert answered_by(city.n1, city.web) == {"server"}


def test_pod_reaches_host_network_server_on_both_nodes(city: City) -> None:
    assert answered_by(city.client, city.n2, port=8080) == {"n2"}
    assert answered_by(city.server, city.n2, port=8080) == {"n2"}


def test_set_backends_moves_new_connections(city: City) -> None:
    moved = city.lab.set_backends(city.web, [city.second])
    assert answered_by(city.client, moved) == {"second"}
    city.web = city.lab.set_backends(moved, [city.server])
    assert answered_by(city.client, city.web) == {"server"}


def test_reused_source_port_gives_the_same_tuple_again(city: City) -> None:
    result = city.client.http(city.server, requests=6, requests_per_connection=2, source_port=40001)
    assert result.require_ok().source_ports == (40001, 40001, 40001)


def test_drops_on_wire_make_tcp_retransmit_and_are_counted(city: City) -> None:
    with drops.on_wire(city.lab.wire, city.n2, every=10) as dropped:
        city.client.http(city.server, requests=100, connections=5).require_ok()
        assert dropped.count() >= 9


def test_drops_in_node_make_tcp_retransmit_and_are_counted(city: City) -> None:
    with drops.in_node(city.n2, city.server, every=10) as dropped:
        city.client.http(city.server, requests=100, connections=5).require_ok()
        assert dropped.count() >= 9


def test_deleted_pod_leaves_no_vport_and_its_address_is_reused_late(city: City) -> None:
    pod = city.n1.pod("short-lived")
    pod.serve_http(80)
    assert answered_by(city.client, pod) == {"short-lived"}
    city.n1.delete_pod(pod)
    assert not pod.netns.path.exists()
    assert pod.vport not in city.n1.run("ip", "-br", "link")
    successor = city.n1.pod("successor")
    assert successor.address == pod.address + 1
    city.n1.delete_pod(successor)


def test_plan_names_every_vport_of_the_node(city: City) -> None:
    plan = city.n2.plan()
    assert plan["nic"] == "eth0"
    assert plan["vports"] == [
        {
            "match": city.server.vport,
            "namespace": "shop",
            "pod": "server",
            "workload": "web",
            "addresses": ["10.244.2.2", "fd00:10:244:2::2"],
        },
        {
            "match": city.second.vport,
            "namespace": "shop",
            "pod": "second",
            "workload": "web",
            "addresses": ["10.244.2.3", "fd00:10:244:2::3"],
        },
    ]


def test_plan_names_pods_of_other_nodes_nodes_services_and_networks(city: City) -> None:
    names = parse_plan(yaml.safe_dump(city.n2.plan())).model_dump(mode="json")["names"]
    assert names["pods"][0] == {
        "namespace": "shop",
        "pod": "client",
        "workload": "client",
        "addresses": ["10.244.1.2", "fd00:10:244:1::2"],
    }
    assert "server" not in {pod["pod"] for pod in names["pods"]}
    assert names["nodes"][0] == {
        "name": "n1",
        "addresses": [
            "172.18.0.11",
            "fd00:18::b",
            "10.244.1.0",
            "10.244.1.1",
            "fd00:10:244:1::",
            "fd00:10:244:1::1",
        ],
    }
    assert names["services"][0] == {
        "namespace": "default",
        "name": "web",
        "addresses": ["10.96.0.10", "fd00:10:96::a"],
        "port": 80,
        "node_port": 30080,
    }
    assert names["pod_networks"] == ["10.244.0.0/16", "fd00:10:244::/48"]


def test_kept_plan_follows_pods_and_services_of_all_nodes(tmp_path: Path) -> None:
    with Lab.make(nodes=2) as lab:
        n1, n2 = lab.nodes
        path = tmp_path / "n1.yaml"
        n1.keep_plan(path, {"program": {"window": 200}})
        assert load_plan(path).vports == ()
        near, far = n1.pod("near"), n2.pod("far")
        lab.service("web", backends=[far])
        plan = load_plan(path)
        assert [vport.pod for vport in plan.vports] == ["near"]
        assert [pod.pod for pod in plan.names.pods] == ["far"]
        assert [service.name for service in plan.names.services] == ["web"]
        assert plan.program.window == 200
        n2.delete_pod(far)
        assert load_plan(path).names.pods == ()
        n1.delete_pod(near)
    assert load_plan(path).vports == ()


def test_topology_is_json_with_nodes_and_services(city: City) -> None:
    topology = json.loads(json.dumps(city.lab.topology()))
    assert [node["name"] for node in topology["nodes"]] == ["n1", "n2"]
    assert topology["services"][0]["vips"] == ["10.96.0.10", "fd00:10:96::a"]


def test_offloads_off_no_super_packet_on_any_device() -> None:
    with Lab.make(nodes=2, offloads=False) as lab:
        n1, n2 = lab.nodes
        client, server = n1.pod("client"), n2.pod("server")
        server.serve_http(80)
        with tap(lab.wire, "n2") as outer, tap(server.netns, "eth0") as inner:
            client.http(server, requests=5, body_bytes=30_000).require_ok()
        assert max(map(len, outer)) <= 1514
        assert max(map(len, inner)) <= 1464


def test_bridge_without_ageing_shows_packets_to_other_pods() -> None:
    with Lab.make(nodes=2, bridge_ageing=False) as lab:
        n1, n2 = lab.nodes
        client, server, bystander = n1.pod("client"), n2.pod("server"), n2.pod("bystander")
        server.serve_http(80)
        with tap(bystander.netns, "eth0") as frames:
            client.http(server, requests=3).require_ok()
        assert len([frame for frame in frames if b"traceparent" in frame]) == 3


def test_two_labs_side_by_side_do_not_meet() -> None:
    with Lab.make() as one, Lab.make() as other:
        for lab in (one, other):
            lab.nodes[1].pod("server").serve_http(80, body=lab.name)
            lab.nodes[0].pod("client")
        for lab in (one, other):
            client, server = lab.nodes[0].pods[0], lab.nodes[1].pods[0]
            assert answered_by(client, server) == {lab.name}


def test_duplicate_pod_name_is_refused_by_name() -> None:
    with Lab.make(nodes=2) as lab:
        lab.nodes[0].pod("twin")
        with pytest.raises(LabError, match="twin"):
            lab.nodes[1].pod("twin")


def leftovers(name: str) -> list[str]:
    """Namespaces, processes' ids and lock files of a lab."""
    places = netns.named(name)
    files = [str(path) for path in Path("/run/overhop/labs").glob(f"*{name}*")]
    return [*(place.name for place in places), *map(str, netns.processes_in(places)), *files]


def host_links() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def test_exit_leaves_nothing() -> None:
    before = host_links()
    with Lab.make() as lab:
        name = lab.name
        server = lab.nodes[0].pod("server")
        server.serve_http(80)
        sleeper = server.popen(("sleep", "1000"))
        assert host_links() == before
        assert leftovers(name)
    assert leftovers(name) == []
    assert sleeper.returncode == -signal.SIGTERM


def fail_in_a_lab(names: list[str]) -> None:
    with Lab.make() as lab:
        names.append(lab.name)
        lab.nodes[0].pod("server").serve_http(80)
        raise ZeroDivisionError


def test_exception_leaves_nothing_and_passes_through() -> None:
    names: list[str] = []
    with pytest.raises(ZeroDivisionError):
        fail_in_a_lab(names)
    assert leftovers(names[0]) == []


def test_process_that_ignores_sigterm_is_killed() -> None:
    with Lab.make(nodes=1) as lab:
        name = lab.name
        script = "trap '' TERM; echo ready; while :; do sleep 1000; done"
        stubborn = lab.nodes[0].popen(("sh", "-c", script), stdout=subprocess.PIPE)
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == b"ready\n"
    assert stubborn.returncode == -signal.SIGKILL
    assert leftovers(name) == []


def start_lab_command() -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        (sys.executable, "-m", "overhop.lab", "--json"), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    name: str = json.loads(process.stdout.readline())["name"]
    assert leftovers(name)
    return process, name


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_lab_command_signal_leaves_nothing(number: signal.Signals, exit_code: int) -> None:
    process, name = start_lab_command()
    with process:
        process.send_signal(number)
        assert process.wait(timeout=10) == exit_code
    assert leftovers(name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_lab_command_impatient_signals_leave_nothing(number: signal.Signals) -> None:
    process, name = start_lab_command()
    ended = threading.Event()

    def insist() -> None:
        while not ended.wait(0.005):
            process.send_signal(number)

    with process:
        insisting = threading.Thread(target=insist)
        insisting.start()
        process.wait(timeout=20)
        ended.set()
        insisting.join()
    assert leftovers(name) == []


def test_killed_owner_is_swept_by_the_next_lab() -> None:
    process, name = start_lab_command()
    with process:
        process.kill()
        process.wait(timeout=10)
    assert leftovers(name)
    with Lab.make(nodes=1):
        assert leftovers(name) == []


def test_sweep_leaves_living_labs_alone(city: City) -> None:
    assert city.lab.name not in sweep()
    assert answered_by(city.client, city.server) == {"server"}
