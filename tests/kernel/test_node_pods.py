# SPDX-License-Identifier: Apache-2.0
"""Pods without a runtime, on the kernel: by processes with an agent's rights, by routes, by the bridge."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from overhop.lab.netns import Netns
from tests.kubernetes import until
from tests.require import require_commands

AGENTS_RIGHTS = (
    "setpriv",
    "--bounding-set=-all,+net_admin,+bpf,+perfmon",
    "--inh-caps=-all",
    "--no-new-privs",
)
FOREIGN = ("setpriv", "--reuid=65535", "--regid=65535", "--clear-groups")
LOOK = """
import json
from collector.node.pods.choose import AutoPods
from overhop.own_pods import own_kernel
source = AutoPods(own_kernel(), [], [])
pods = {pod.interface: [pod.pid, *pod.addresses] for pod in source.pods()}
print(json.dumps([pods, source.problem]))
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A node with a bridge, pods of which nobody tells, and a veth with the default route as NIC."""

    space: Netns
    behind_bridge: Netns
    """Interface vbridge, 10.77.0.2 and fd77::2."""
    routed: Netns
    """Interface vrouted, 10.77.9.9, with a route to it."""

    def look(self, *before: str) -> dict[str, list[Any]]:
        """Process and addresses by interface, as another process sees them; without that problem."""
        found, problem = json.loads(self.space.run((*before, sys.executable, "-c", LOOK)))
        assert problem == ""
        return dict(found)


@pytest.fixture
def node(new_netns: Callable[[], Netns]) -> Node:
    require_commands("ip", "setpriv")
    made = Node(new_netns(), new_netns(), new_netns())
    outside = new_netns()
    made.space.ip(
        [
            "link set lo up",
            f"link add eth0 type veth peer name eth0 netns {outside.name}",
            "addr add 192.0.2.1/24 dev eth0",
            "link set eth0 up",
            "route add default via 192.0.2.9",
            "neigh add 192.0.2.9 dev eth0 lladdr 02:00:00:00:00:09",
            "link add br0 type bridge",
            "addr add 10.77.0.1/24 dev br0",
            "link set br0 up",
            f"link add vbridge type veth peer name eth0 netns {made.behind_bridge.name}",
            "link set vbridge master br0 up",
            f"link add vrouted type veth peer name eth0 netns {made.routed.name}",
            "link set vrouted up",
            "addr add 10.78.0.1/30 dev vrouted",
            "route add 10.77.9.9/32 dev vrouted",
        ]
    )
    made.behind_bridge.ip(
        [
            "link set lo up",
            "addr add 10.77.0.2/24 dev eth0",
            "addr add fd77::2/64 dev eth0",
            "link set eth0 up",
        ]
    )
    made.routed.ip(["addr add 10.77.9.9/32 dev eth0", "link set eth0 up"])
    return made


@pytest.fixture
def process(node: Node) -> Iterator[subprocess.Popen[bytes]]:
    """Of another user, in the pod behind the bridge."""
    with node.behind_bridge.popen((*FOREIGN, "sleep", "600")) as started:
        yield started
        started.kill()


def test_pod_is_told_by_its_process_with_an_agents_rights(
    node: Node, process: subprocess.Popen[bytes]
) -> None:
    found = node.look(*AGENTS_RIGHTS)
    assert found == {"vbridge": [process.pid, "10.77.0.2", "fd77::2"], "vrouted": [0, "10.77.9.9"]}


def test_pod_of_which_no_process_is_seen_is_told_by_the_bridge_once_it_sends(node: Node) -> None:
    assert node.look(*AGENTS_RIGHTS) == {"vrouted": [0, "10.77.9.9"]}

    def is_found() -> bool:
        with (
            node.behind_bridge.entered(),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            sender.sendto(b"x", ("10.77.0.1", 9))
        return node.look() == {"vbridge": [0, "10.77.0.2"], "vrouted": [0, "10.77.9.9"]}

    until("the bridge's neighbour", is_found, 20)


def test_interface_without_anybody_behind_it_is_nobodys(node: Node, new_netns: Callable[[], Netns]) -> None:
    node.space.ip(
        [f"link add vempty type veth peer name eth0 netns {new_netns().name}", "link set vempty up"]
    )
    assert node.look() == {"vrouted": [0, "10.77.9.9"]}
