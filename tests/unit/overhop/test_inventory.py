# SPDX-License-Identifier: Apache-2.0
import io
import json
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from agent.plan.model import Plan, VportPlan, parse_plan
from collector.node.abilities import Abilities
from collector.node.links import Link, Network
from collector.node.nat import Backend, Masquerade, NatRules, Service
from collector.node.pods.local import LocalPod
from overhop.commands.inventory import as_json
from overhop.inventory import Inventory, Readings, RunningAgent, inventory_of
from overhop.inventory_view import render
from overhop.own_pods import OwnPods

ABILITIES = Abilities(
    machine="x86_64",
    kernel_release="6.12.1",
    kernel_version=(6, 12),
    realtime=False,
    btf=True,
    jit=None,
    tcx=True,
    clsact=False,
    clsact_problem="",
    lockdown="none",
    capabilities=frozenset({"CAP_NET_ADMIN", "CAP_BPF"}),
    bcc_python=None,
    system_headers=True,
)
LINKS = (
    Link(2, "eth0", "", True, 1500, True, False, 0, "", 0, 0),
    Link(5, "flannel.1", "vxlan", True, 1450, True, False, 2, "", 0, 8472, 7),
    Link(8, "veth1", "veth", False, 1450, True, True, 0, "cni0", 0, 0),
)
NETWORK = Network(LINKS, ("eth0",), "default route", {"gro": True, "tso": False}, 0)
PLAN = parse_plan("""
nic: eth0
vports:
  - {match: veth1, namespace: shop, pod: web-1, workload: web, addresses: 10.244.1.2}
names:
  services:
    - {namespace: shop, name: web, addresses: 10.96.0.10, port: 80, node_port: 30080}
""")
WEB = (Backend("10.244.1.2", 8080, 0.5), Backend("fd00::2", 0, 0.5))
UNEVEN = (Backend("10.0.0.1", 1, 0.9), Backend("10.0.0.2", 1, 0.1))
NAT = {
    "ipv4": NatRules(
        read=True,
        services=(
            Service("dnat", "", "tcp", "10.96.0.10", 80, WEB, "outside"),
            Service("node-port", "other/name", "tcp", "", 30080, WEB[:1], "always"),
            Service(
                "node-port",
                "",
                "tcp",
                "",
                30081,
                (Backend("10.0.0.1", 1, 0.9), Backend("10.0.0.2", 1, 0.1)),
                "",
            ),
        ),
        masquerades=(Masquerade("KUBE-POSTROUTING", "", ""),),
        not_understood=1,
        examples=("-A X -j REDIRECT\x1b[2J",),
    ),
    "ipv6": NatRules(read=False, reason="ip6tables-save is not installed"),
}
READINGS = Readings(NETWORK, {2: ("172.18.0.11/16",)}, NAT, ABILITIES, RunningAgent(812, True, ("eth0",), 1))


def made(plan: Plan = PLAN, readings: Readings = READINGS) -> Inventory:
    return inventory_of("n1", plan, "", readings)


def lines_of(inventory: Inventory, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, markup=True).print(render(inventory, width))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_inventory_of_says_roles_pods_overlay_and_services_by_the_plan() -> None:
    found = made()
    assert [(each.name, each.role, each.addresses) for each in found.interfaces] == [
        ("eth0", "nic", ("172.18.0.11/16",)),
        ("flannel.1", "overlay", ()),
        ("veth1", "vport", ()),
    ]
    (vport,) = found.vports
    assert (vport.namespace, vport.pod, vport.workload, vport.addresses) == (
        "shop",
        "web-1",
        "web",
        ("10.244.1.2",),
    )
    (overlay,) = found.overlays
    assert (overlay.kind, overlay.number, overlay.port, overlay.over) == ("vxlan", 7, 8472, "eth0")
    assert [each.name for each in found.nat["ipv4"].services] == ["shop/web", "other/name", ""]


def test_inventory_of_a_vport_without_names_is_called_after_its_interface() -> None:
    plan = parse_plan("nic: eth0\nvports: [{match: veth*}]")
    assert [(each.pod, each.workload) for each in made(plan).vports] == [("veth1", "veth1")]


OWN = OwnPods(
    "CRI at /run/x.sock (containerd 1.6)",
    "",
    (
        LocalPod("u1", "shop", "web-9", addresses=("10.244.1.9",), interface="veth1"),
        LocalPod("u2", "shop", "host", is_on_host_network=True),
    ),
)


def test_inventory_of_a_vport_without_names_in_the_plan_is_named_by_who_knows_the_pods() -> None:
    for plan in (
        parse_plan("vports: [{match: veth*}]"),
        Plan(vports=(VportPlan(match="veth1", pod="veth1"),)),
    ):
        [vport] = made(plan, replace(READINGS, pods=OWN)).vports
        assert (vport.namespace, vport.pod, vport.workload, vport.addresses, vport.uid) == (
            "shop",
            "web-9",
            "web-9",
            ("10.244.1.9",),
            "u1",
        )


def test_inventory_of_a_vport_that_the_plan_names_is_the_plans() -> None:
    [vport] = made(readings=replace(READINGS, pods=OWN)).vports
    assert (vport.pod, vport.addresses) == ("web-1", ("10.244.1.2",))


def test_inventory_of_a_pod_that_nobody_names_has_its_addresses() -> None:
    nameless = LocalPod("u3", "", "", addresses=("10.244.1.3",), interface="veth1")
    pods = OwnPods("no container runtime: processes", "", (nameless,))
    [vport] = made(parse_plan("vports: [{match: veth*}]"), replace(READINGS, pods=pods)).vports
    assert (vport.pod, vport.workload, vport.addresses, vport.uid) == (
        "veth1",
        "veth1",
        ("10.244.1.3",),
        "u3",
    )


def test_render_says_who_told_the_pods_or_why_nobody_did() -> None:
    told = made(readings=replace(READINGS, pods=OWN))
    assert "pods   told by CRI at /run/x.sock (containerd 1.6)" in lines_of(told, 80)
    failed = replace(OWN, problem="CRI at /run/x.sock: Permission denied")
    assert "pods   CRI at /run/x.sock: Permission denied" in lines_of(
        made(readings=replace(READINGS, pods=failed)), 80
    )


def test_render_60_columns() -> None:
    assert lines_of(made(), 60) == [
        "node n1",
        "agent  812 traces eth0 and 1 vport",
        "nic    eth0 (default route, gro on, tso off)",
        "kernel 6.12.1 x86_64 · BTF yes · TCX yes · clsact no · JIT",
        "unknown · CAP_BPF, CAP_NET_ADMIN",
        "",
        "interfaces",
        "name       kind   role          mtu   addresses",
        "eth0       -      nic           1500  172.18.0.11/16",
        "flannel.1  vxlan  overlay       1450",
        "veth1      veth   vport (down)  1450",
        "",
        "vports",
        "interface  pod         workload  addresses",
        "veth1      shop/web-1  web       10.244.1.2",
        "",
        "overlay",
        "device     kind   vni  port  mtu   over",
        "flannel.1  vxlan  7    8472  1450  eth0",
        "",
        "IPv4 services",
        "service     kind       called          goes to",
        "shop/web    dnat       10.96.0.10:80   10.244.1.2:8080",
        "                                       fd00::2",
        "other/name  node-port  any node:30080  10.244.1.2:8080",
        "-           node-port  any node:30081  10.0.0.1:1 90%",
        "                                       10.0.0.2:1 10%",
        "",
        "IPv4 sources translated",
        "chain             when        to",
        "KUBE-POSTROUTING  everything  -",
        "1 rule not understood:",
        "  -A X -j REDIRECT\\x1b[2J",
        "",
        "IPv6 NAT",
        "  not read: ip6tables-save is not installed",
    ]


def test_inventory_of_a_node_port_on_one_address_is_called_as_the_plan_does() -> None:
    port = Service("node-port", "", "tcp", "172.18.0.11", 30080, WEB[:1], "always")
    found = made(readings=replace(READINGS, nat={"ipv4": NatRules(read=True, services=(port,))}))
    assert [each.name for each in found.nat["ipv4"].services] == ["shop/web"]


def test_render_says_of_services_without_back_ends_why() -> None:
    services = (
        Service("cluster-ip", "a/empty", "tcp", "10.96.0.1", 80, (), "", 0, "reject"),
        Service("node-port", "a/far", "tcp", "172.18.0.11", 30081, (), "", 0, "drop"),
        Service("external", "a/local", "tcp", "fd00::1", 80, (), ""),
    )
    found = made(readings=replace(READINGS, nat={"ipv4": NatRules(read=True, services=services)}))
    lines = lines_of(found, 60)
    assert lines[lines.index("IPv4 services") + 1 :] == [
        "service  kind        called             goes to",
        "a/empty  cluster-ip  10.96.0.1:80       no endpoints",
        "a/far    node-port   172.18.0.11:30081  none on this node",
        "a/local  external    [fd00::1]:80       none on this node",
    ]


def test_render_wide_says_whose_source_is_translated() -> None:
    lines = lines_of(made(), 100)
    assert "service     kind       called          goes to          masquerade" in lines
    assert "other/name  node-port  any node:30080  10.244.1.2:8080  always" in lines


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_render_hostile_names_fit_and_have_no_control_characters(width: int) -> None:
    hostile = "[bold]\x1b[31m\n\u202e名" * 20
    plan = parse_plan(
        json.dumps({"nic": "eth0", "vports": [{"match": "veth1", "namespace": hostile, "pod": hostile}]})
    )
    service = replace(NAT["ipv4"].services[0], name=hostile)
    readings = replace(READINGS, nat={"ipv4": NatRules(read=True, services=(service,), reason=hostile)})
    lines = lines_of(inventory_of(hostile, plan, hostile, readings), width)
    assert max(cell_len(line) for line in lines) <= width
    assert all(line.isprintable() for line in lines)


def test_render_without_agent_nic_and_anything_else() -> None:
    nothing = Readings(replace(NETWORK, links=(), offloads={}), {}, {}, ABILITIES, None)
    lines = lines_of(inventory_of("n1", Plan(), "find the NIC: no interface is hardware", nothing), 60)
    assert lines[1:3] == [
        "agent  none runs in this network namespace",
        "nic    not known: find the NIC: no interface is hardware",
    ]
    assert lines[-3:] == ["", "overlay", "  none"]


def test_inventory_of_a_nic_that_is_not_there_says_so() -> None:
    found = made(parse_plan("nic: [eth0, eth7]"))
    assert found.nic_problem == "no such interface: eth7"
    assert (
        lines_of(found, 80)[2]
        == "nic    eth0, eth7 (default route, gro on, tso off): no such interface: eth7"
    )


def test_as_json_is_json_of_everything() -> None:
    data = json.loads(json.dumps(as_json(made())))
    assert sorted(data) == [
        "abilities",
        "agent",
        "interfaces",
        "nat",
        "nic",
        "nic_problem",
        "nic_reason",
        "node",
        "offloads",
        "overlays",
        "pods_problem",
        "pods_source",
        "vports",
    ]
    assert data["abilities"]["capabilities"] == ["CAP_BPF", "CAP_NET_ADMIN"]
    assert data["agent"] == {"pid": 812, "answers": True, "nic": ["eth0"], "vports": 1}
    assert data["nat"]["ipv4"]["services"][0]["backends"][0] == {
        "address": "10.244.1.2",
        "port": 8080,
        "share": 0.5,
    }
