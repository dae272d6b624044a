# SPDX-License-Identifier: Apache-2.0
"""`overhop inventory` where NAT rules, an overlay and pods are real: on a node of the lab."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from overhop.lab import Lab, Node
from tests.require import require_commands


@dataclass(frozen=True, slots=True)
class Place:
    """A node with a pod and a service, and its plan."""

    node: Node
    plan: Path
    backends: list[str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    require_commands("ip", "bridge", "iptables", "ip6tables-save", "setpriv")
    with Lab.make(nodes=2, ipv6=True) as lab:
        here = lab.nodes[0].pod("here", namespace="shop", workload="web")
        there = lab.nodes[1].pod("there", namespace="shop", workload="web")
        lab.service("web", backends=[here, there], node_port=30080)
        plan = tmp_path_factory.mktemp("plan") / "n1.yaml"
        lab.nodes[0].keep_plan(plan)
        yield Place(lab.nodes[0], plan, [str(here.address), str(there.address)])


def inventory(
    place: Place, *arguments: str, before: Sequence[str] = ()
) -> dict[str, Any]:  # Any: parsed JSON
    command = (*before, sys.executable, "-m", "overhop", "inventory", "--json", "--node", "n1", *arguments)
    found: dict[str, Any] = json.loads(place.node.netns.run(command))
    return found


def test_inventory_by_the_plan_names_pods_overlay_and_services(place: Place) -> None:
    found = inventory(place, "--plan", str(place.plan))
    assert (found["node"], found["nic"], found["agent"]) == ("n1", ["eth0"], None)
    assert [(each["namespace"], each["pod"], each["workload"]) for each in found["vports"]] == [
        ("shop", "here", "web")
    ]
    (overlay,) = found["overlays"]
    assert (overlay["name"], overlay["kind"], overlay["number"], overlay["port"], overlay["over"]) == (
        "flannel.1", "vxlan", 1, 8472, "eth0",
    )  # fmt: skip
    for family in ("ipv4", "ipv6"):
        rules = found["nat"][family]
        assert (rules["read"], rules["not_understood"]) == (True, 0)
        called, node_port = rules["services"]
        assert (called["port"], called["masquerade"], called["name"]) == (80, "outside", "default/web")
        assert (node_port["kind"], node_port["port"], node_port["masquerade"]) == (
            "node-port",
            30080,
            "always",
        )
    assert [each["address"] for each in found["nat"]["ipv4"]["services"][0]["backends"]] == place.backends
    assert {each["role"] for each in found["interfaces"]} == {"nic", "overlay", "vport", ""}


def test_inventory_without_a_plan_finds_the_vports(place: Place) -> None:
    found = inventory(place)
    (vport,) = found["vports"]
    assert vport["pod"] == vport["name"]
    assert found["nic"] == ["eth0"]


def test_inventory_without_rights_says_that_nat_was_not_read(place: Place) -> None:
    found = inventory(place, before=("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"))
    for family in ("ipv4", "ipv6"):
        assert not found["nat"][family]["read"]
        assert "Permission denied" in found["nat"][family]["reason"]
    assert "CAP_NET_ADMIN" not in found["abilities"]["capabilities"]
    assert found["nic"] == ["eth0"]
