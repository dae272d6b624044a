# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address, ip_network

import pytest

from agent.plan.model import PlanError, parse_plan
from agent.plan.names import NamesPlan, NodeName, PodName, ServiceName

GOOD = """\
names:
  pods:
    - {namespace: shop, pod: web-0, workload: web, addresses: [10.1.0.7, "fd00::7"]}
    - {pod: lonely, addresses: 10.1.0.8}
  nodes: [{name: n2, addresses: [172.18.0.12, 10.244.2.0]}]
  services:
    - {namespace: shop, name: web, addresses: [10.96.0.10], port: 80, node_port: 30080}
  pod_networks: [10.244.0.0/16, "fd00:10::/32"]
"""


def test_names_with_everything_are_typed() -> None:
    assert parse_plan(GOOD).names == NamesPlan(
        pods=(
            PodName(
                namespace="shop",
                pod="web-0",
                workload="web",
                addresses=(ip_address("10.1.0.7"), ip_address("fd00::7")),
            ),
            PodName(pod="lonely", addresses=(ip_address("10.1.0.8"),)),
        ),
        nodes=(NodeName(name="n2", addresses=(ip_address("172.18.0.12"), ip_address("10.244.2.0"))),),
        services=(
            ServiceName(
                namespace="shop", name="web", addresses=(ip_address("10.96.0.10"),), port=80, node_port=30080
            ),
        ),
        pod_networks=(ip_network("10.244.0.0/16"), ip_network("fd00:10::/32")),
    )


def test_names_that_are_not_given_are_none() -> None:
    assert parse_plan("nic: eth0").names == NamesPlan()


def test_names_with_many_problems_report_all_with_place() -> None:
    text = """\
vports: [{match: a, pod: host}, {match: b, workload: other, namespace: x}, {match: c, workload: other}]
names:
  pods: [{namespac: shop, pod: unknown, addresses: [10.1.0.7]}, {pod: a, addresses: []}]
  nodes: [{name: n2, adresses: [172.18.0.12]}]
  services: [{name: "", addresses: [10.96.0], port: 0, node_port: 99999}, 5]
  pod_networks: [10.244.0.1/16, 5, 10.0.0.0/44]
  pds: []
"""
    with pytest.raises(PlanError) as caught:
        parse_plan(text, "plan.yaml")
    stands = "without a namespace stands for no pod: give a namespace"
    assert [str(problem).removeprefix("plan.yaml:") for problem in caught.value.problems] == [
        f"1:26: vports[0].pod: 'host' {stands}",
        f"1:97: vports[2].workload: 'other' {stands}",
        "3:11: names.pods[0].namespac: unknown key, did you mean `namespace`?",
        f"3:32: names.pods[0].pod: 'unknown' {stands}",
        "3:74: names.pods[1].addresses: must be a list with an entry, not an empty list",
        "4:11: names.nodes[0].addresses: is missing",
        "4:22: names.nodes[0].adresses: unknown key, did you mean `addresses`?",
        "5:21: names.services[0].name: must be text that is not empty, not ''",
        "5:37: names.services[0].addresses[0]: '10.96.0' is no IPv4 or IPv6 address",
        "5:53: names.services[0].port: must be greater than or equal to 1, not 0",
        "5:67: names.services[0].node_port: must be less than or equal to 65535, not 99999",
        "5:75: names.services[1]: must be a mapping, not 5",
        "6:18: names.pod_networks[0]: '10.244.0.1/16' is no IPv4 or IPv6 network: bits of a host are set",
        "6:33: names.pod_networks[1]: 5 is no IPv4 or IPv6 network: it looks like 10.244.0.0/16",
        "6:36: names.pod_networks[2]: '10.0.0.0/44' is no IPv4 or IPv6 network: it looks like 10.244.0.0/16",
        "7:3: names.pds: unknown key, did you mean `pods`?",
    ]


def test_names_of_another_type_are_one_problem() -> None:
    with pytest.raises(PlanError, match=r"plan:1:8: names: must be a mapping, not 7"):
        parse_plan("names: 7")
