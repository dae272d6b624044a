# SPDX-License-Identifier: Apache-2.0
"""Interfaces on top of each other, made in a guest whose kernel has them all, and what rtnetlink says then.

`./dev test kernels --kernel 6.12 --step links --json` prints what tests/data/links keeps.
"""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agent.network import rtnetlink
from overhop.lab.netns import Netns

HARDWARE = [
    "link add eth0 type veth peer far0",
    "link add eth1 type veth peer far1",
    "link set eth0 up", "link set eth1 up", "link set far0 up", "link set far1 up",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stack:
    """Commands of ip(8), for an empty network namespace with eth0 and eth1."""

    name: str
    commands: tuple[str, ...]


BOND = (
    "link add bond0 type bond mode active-backup",
    "link set eth0 down", "link set eth1 down",
    "link set eth0 master bond0", "link set eth1 master bond0",
    "link set bond0 up",
)  # fmt: skip
STACKS = (
    Stack("bond", (*BOND, "addr add 10.0.0.1/24 dev bond0", "route add default via 10.0.0.254")),
    Stack(
        "vlan-on-bond",
        (
            *BOND,
            "link add link bond0 name bond0.7 type vlan id 7",
            "link set bond0.7 up",
            "addr add 10.0.0.1/24 dev bond0.7",
            "route add default via 10.0.0.254",
        ),
    ),
    Stack(
        "vxlan-over-vlan",
        (
            "addr add 192.0.2.10/24 dev eth0",
            "route add default via 192.0.2.1",
            "link add link eth1 name eth1.7 type vlan id 7",
            "link set eth1.7 up",
            "addr add 10.0.0.1/24 dev eth1.7",
            "link add flannel.1 type vxlan id 1 dev eth1.7 local 10.0.0.1 dstport 8472",
            "link set flannel.1 up",
        ),
    ),
    Stack(
        "calico-ipip",
        (
            "addr add 192.0.2.10/24 dev eth0",
            "route add default via 192.0.2.1",
            "addr add 10.0.0.1/24 dev eth1",
            "link set tunl0 up",
            "addr add 10.244.0.0/32 dev tunl0",
            "route add 10.244.1.0/26 via 10.0.0.2 dev tunl0 onlink",
        ),
    ),
    Stack(
        "gre-over-bond",
        (
            *BOND,
            "addr add 10.0.0.1/24 dev bond0",
            "link add gre1 type gre local 10.0.0.1 remote 10.0.0.2",
            "link set gre1 up",
        ),
    ),
    Stack(
        "bridge",
        (
            "link add br0 type bridge",
            "link set eth0 master br0",
            "link set br0 up",
            "addr add 10.0.0.1/24 dev br0",
            "route add default via 10.0.0.254",
        ),
    ),
    Stack(
        "macvlan",
        (
            "link add link eth0 name mac0 type macvlan mode bridge",
            "link set mac0 up",
            "addr add 10.0.0.1/24 dev mac0",
            "route add default via 10.0.0.254",
        ),
    ),
    Stack(
        "two-default-routes",
        (
            "addr add 192.0.2.10/24 dev eth0",
            "addr add 10.0.0.1/24 dev eth1",
            "route add default via 192.0.2.1 metric 200",
            "route add default via 10.0.0.254 metric 100",
        ),
    ),
)
MODULES = ("bonding", "8021q", "macvlan", "ipip", "ip_gre", "vxlan", "bridge")
_REQUESTS = {
    "links": (18, bytes(16) + rtnetlink.attribute(29, b"\10\0\0\0")),  # RTM_GETLINK, without statistics
    "addresses": (22, bytes(8)),  # RTM_GETADDR, struct ifaddrmsg
    "routes": (26, b"\2" + bytes(11)),  # RTM_GETROUTE, struct rtmsg of AF_INET
    "routes6": (26, b"\12" + bytes(11)),
}


def load_modules() -> None:
    """What the kernel has not built in. Names that it does not know are left out."""
    for module in MODULES:
        with suppress(OSError):
            subprocess.run(["modprobe", module], check=False, capture_output=True)


def recorded(netns: Netns, stack: Stack) -> dict[str, Any]:
    """Bodies of the messages of each listing, in hexadecimal."""
    with netns.entered():
        netns.ip([*HARDWARE, *stack.commands])
        return {
            "stack": stack.name,
            "commands": list(stack.commands),
            **{name: list(_bodies(name)) for name in _REQUESTS},
        }


def _bodies(name: str) -> Iterator[str]:
    kind, request = _REQUESTS[name]
    for message in rtnetlink.dump(kind, request, f"list {name}"):
        yield message.body.hex()
