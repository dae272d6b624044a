# SPDX-License-Identifier: Apache-2.0
"""What real kube-proxies made of services of every kind.

The table is written by hand from services.json and from what Kubernetes' documentation says of each field;
addresses that the cluster chose are read out of its objects.
"""

from collections.abc import Iterator

import pytest

from collector.node.iptables_nat import parse_nat
from collector.node.nat import Backend, Masquerade, Service
from tests.unit.collector import recorded

# Service, what is called, port (u: UDP, s: SCTP), kind, masquerade, affinity in s, back ends on n1 and on n2.
# Back ends are the last two numbers of 10.244.0.0/16 or of fd00:244::/56; port 8080 where none is said.
# `pods`: of the deployment; `api`: the API server.
TABLE = """
kubernetes            cluster       443 cluster-ip    outside 0     api                      api
plain                 cluster       80  cluster-ip    outside 0     pods                     pods
two-ports             cluster       80  cluster-ip    outside 0     pods                     pods
two-ports             cluster       53u cluster-ip    outside 0     pods:5353                pods:5353
nodeport              cluster       80  cluster-ip    outside 0     pods                     pods
nodeport              node       30080  node-port     always  0     pods                     pods
sticky                cluster       80  cluster-ip    outside 10800 pods                     pods
sticky-nodeport       cluster       80  cluster-ip    outside 600   pods                     pods
sticky-nodeport       node       30083  node-port     always  600   pods                     pods
outer-local           cluster       80  cluster-ip    outside 0     0.71,1.71                0.71,1.71
outer-local           node       30081  node-port     -       0     0.71                     1.71
outer-local-1         cluster       80  cluster-ip    outside 0     0.72                     0.72
outer-local-1         node       30084  node-port     -       0     0.72                     drop
outer-local-1         192.0.2.20    80  external-ip   -       0     0.72                     drop
outer-local-2         cluster       80  cluster-ip    outside 0     1.72                     1.72
outer-local-2         node       30085  node-port     -       0     drop                     1.72
outer-local-2         192.0.2.21    80  external-ip   -       0     drop                     1.72
inner-local           cluster       80  cluster-ip    outside 0     0.71                     1.71
inner-local-1         cluster       80  cluster-ip    outside 0     0.72                     drop
inner-local-2         cluster       80  cluster-ip    outside 0     drop                     1.72
both-local            cluster       80  cluster-ip    outside 0     0.71                     1.71
both-local            node       30086  node-port     -       0     0.71                     1.71
balanced              cluster       80  cluster-ip    outside 0     0.71,1.71                0.71,1.71
balanced              192.0.2.10    80  external-ip   always  0     0.71,1.71                0.71,1.71
balanced              203.0.113.10  80  load-balancer always  0     0.71,1.71                0.71,1.71
balanced              node       30082  node-port     always  0     0.71,1.71                0.71,1.71
balanced-open         cluster       80  cluster-ip    outside 0     0.71,1.71                0.71,1.71
balanced-open         203.0.113.11  80  load-balancer always  0     0.71,1.71                0.71,1.71
balanced-open         node       30087  node-port     always  0     0.71,1.71                0.71,1.71
balanced-local        cluster       80  cluster-ip    outside 10800 0.71,1.71                0.71,1.71
balanced-local        203.0.113.12  80  load-balancer -       10800 0.71                     1.71
balanced-local        node       30088  node-port     -       10800 0.71                     1.71
balanced-proxy        cluster       80  cluster-ip    outside 0     0.71,1.71                0.71,1.71
no-node-ports         cluster       80  cluster-ip    outside 0     0.71,1.71                0.71,1.71
no-node-ports         203.0.113.13  80  load-balancer always  0     0.71,1.71                0.71,1.71
empty                 cluster       80  cluster-ip    -       0     reject                   reject
empty                 192.0.2.30    80  external      -       0     reject                   reject
empty                 203.0.113.14  80  external      -       0     reject                   reject
empty                 node       30089  node-port     -       0     reject                   reject
zoned                 cluster       80  cluster-ip    outside 0     0.73                     1.73,1.74
zoned-in-part         cluster       80  cluster-ip    outside 0     0.73,1.73                0.73,1.73
zoned-elsewhere       cluster       80  cluster-ip    outside 0     0.73,1.73                1.73
same-node             cluster       80  cluster-ip    outside 0     0.75,0.76                1.75
ending                cluster       80  cluster-ip    outside 0     0.77                     0.77
ending-in-part        cluster       80  cluster-ip    outside 0     1.77                     1.77
ending-here           cluster       80  cluster-ip    outside 0     1.77                     1.77
ending-here           node       30090  node-port     -       0     0.77                     1.77
published             cluster       80  cluster-ip    outside 0     0.78                     0.78
sctp                  cluster        9s cluster-ip    outside 0     0.71,1.71                0.71,1.71
two-slices            cluster       80  cluster-ip    outside 0     0.80-83,1.80-82          0.80-83,1.80-82
two-slices-two-ports  cluster       80  cluster-ip    outside 0     0.90,1.90:9090           0.90,1.90:9090
dual                  cluster       80  cluster-ip    outside 0     0.95,1.95                0.95,1.95
dual                  node       30091  node-port     always  0     0.95,1.95                0.95,1.95
half-dual             cluster       80  cluster-ip    outside 0     0.71,1.71                0.71,1.71
"""
TABLE_6 = """
dual                  cluster       80  cluster-ip    outside 0     0.95,1.95,1.96           0.95,1.95,1.96
dual                  node       30091  node-port     always  0     0.95,1.95,1.96           0.95,1.95,1.96
six                   cluster       80  cluster-ip    outside 0     0.97,1.97                0.97,1.97
six                   2001:db8::10  80  external-ip   -       0     0.97                     1.97
six                   2001:db8::11  80  load-balancer -       0     0.97                     1.97
six                   node       30092  node-port     -       0     0.97                     1.97
half-dual             cluster       80  cluster-ip    -       0     reject                   reject
"""
PODS = {"iptables": "0.2,0.3,1.2", "nftables": "0.3,0.4,1.3"}
API = {"iptables": ("172.30.138.1", 6443), "nftables": ("172.30.48.1", 6443)}
NODE = {"iptables": "172.30.138.12", "nftables": "172.30.48.12"}
"""Of n2, whose kube-proxy opens node ports on it only; on n1 nftables mode does so by default."""
GUARDED = ("203.0.113.10", "203.0.113.12", "2001:db8::11")
"""Balancers with loadBalancerSourceRanges: only of these do nftables' rules say what they are."""
PROTOCOLS = {"u": "udp", "s": "sctp"}


def written(table: str, mode: str, node: str, family: int) -> Iterator[Service]:
    chosen = cluster_addresses(mode, family)
    for line in table.strip().splitlines():
        name, called, port, kind, masquerade, affinity, on_1, on_2 = line.split()
        targets = on_1 if node == "n1" else on_2
        protocol = PROTOCOLS.get(port[-1], "tcp")
        number = int(port.rstrip("us"))
        is_refused = targets in ("drop", "reject")
        if mode == "nftables" and kind in ("external-ip", "load-balancer") and called not in GUARDED:
            kind = "external"
        yield Service(
            kind=kind,
            name=f"{'default' if name == 'kubernetes' else 'shop'}/{name}",
            protocol=protocol,
            address=chosen[name]
            if called == "cluster"
            else node_address(mode, node, family, targets)
            if called == "node"
            else called,
            port=number,
            backends=() if is_refused else backends(targets, mode, family),
            masquerade="" if masquerade == "-" or is_refused else masquerade,
            affinity_s=int(affinity),
            refused=targets if is_refused else "",
        )


def node_address(mode: str, node: str, family: int, targets: str) -> str:
    """Where node ports are open; what nobody serves is refused on all addresses."""
    if family == 6 or targets == "reject":
        return ""
    if node == "n1":
        return "172.30.48.11" if mode == "nftables" else ""
    return NODE[mode]


def cluster_addresses(mode: str, family: int) -> dict[str, str]:
    return {
        each["metadata"]["name"]: address
        for each in recorded.objects(mode)
        if each["kind"] == "Service"
        for address in each["spec"].get("clusterIPs", [])
        if (":" in address) == (family == 6)
    }


def backends(targets: str, mode: str, family: int) -> tuple[Backend, ...]:
    if targets == "api":
        return (Backend(*API[mode], 1.0),)
    default = 8080
    if targets.startswith("pods"):
        default = int(targets.partition(":")[2] or 80)
        targets = PODS[mode]
    found = []
    for part in targets.split(","):
        place, _, port = part.partition(":")
        node, _, numbers = place.partition(".")
        first, _, last = numbers.partition("-")
        for number in range(int(first), int(last or first) + 1):
            six = f"fd00:244::{number}" if node == "0" else f"fd00:244:0:{node}::{number}"
            found.append((six if family == 6 else f"10.244.{node}.{number}", int(port or default)))
    return tuple(Backend(*each, round(1 / len(found), 6)) for each in sorted(found))


def ordered(services: tuple[Service, ...] | list[Service]) -> list[Service]:
    """As the order of rules says nothing: services and back ends by address."""
    return sorted(
        (
            Service(
                each.kind, each.name, each.protocol, each.address, each.port,
                tuple(sorted(each.backends, key=lambda one: (one.address, one.port))),
                each.masquerade, each.affinity_s, each.refused,
            )
            for each in services
        ),
        key=lambda each: (each.name, each.address, each.port, each.protocol),
    )  # fmt: skip


@pytest.mark.parametrize(("mode", "node"), recorded.NODES)
def test_rules_of_a_real_node_are_told_as_its_services_are(mode: str, node: str) -> None:
    found = recorded.rules(mode, node)["ipv4"]
    assert (found.read, found.not_understood, found.examples) == (True, 0, ())
    of_kube_proxy = [each for each in found.services if each.kind != "host-port"]
    assert ordered(of_kube_proxy) == ordered(list(written(TABLE, mode, node, 4)))


@pytest.mark.parametrize(("mode", "node"), recorded.NODES)
def test_rules_for_ipv6_of_a_real_node_are_told_as_its_services_are(mode: str, node: str) -> None:
    found = recorded.rules(mode, node)["ipv6"]
    assert (found.read, found.not_understood, found.examples) == (True, 0, ())
    assert ordered(found.services) == ordered(list(written(TABLE_6, mode, node, 6)))


@pytest.mark.parametrize(
    ("file", "port", "pod"),
    [
        ("iptables-n1.txt", 8081, "10.244.1.3"),
        ("iptables-n2.txt", 8082, "10.244.0.4"),
        ("nftables-n1-iptables.txt", 8081, "10.244.0.2"),
    ],
)
def test_host_port_of_a_pod_is_nobodys_service(file: str, port: int, pod: str) -> None:
    found = parse_nat((recorded.DATA / file).read_text())
    assert [each for each in found.services if each.kind == "host-port"] == [
        Service("host-port", "", "tcp", "", port, (Backend(pod, 80, 1.0),), "")
    ]
    assert found.not_understood == 0


def test_who_translates_sources_is_told_of_both_modes() -> None:
    of_iptables = recorded.rules("iptables", "n1")["ipv4"].masquerades
    assert [each.chain for each in of_iptables] == [
        "CNI-HOSTPORT-MASQ", "FLANNEL-POSTRTG", "FLANNEL-POSTRTG", "KUBE-POSTROUTING",
    ]  # fmt: skip
    assert recorded.rules("nftables", "n1")["ipv4"].masquerades == (
        Masquerade("masquerading", "", ""),
        Masquerade("postrtg", "ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4", ""),
        Masquerade("postrtg", "ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16", ""),
    )


def test_rules_of_a_real_docker_engine_are_a_host_port_and_nothing_else() -> None:
    found = parse_nat((recorded.DATA / "iptables-docker.txt").read_text())
    assert found.services == (
        Service("host-port", "", "tcp", "", 8080, (Backend("172.17.0.2", 80, 1.0),), ""),
    )
    assert found.not_understood == 0
    assert [each.when for each in found.masquerades] == [
        "-s 172.17.0.0/16 ! -o docker0",
        "-s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80",
    ]
