# SPDX-License-Identifier: Apache-2.0
"""Addresses behind interfaces, on the kernel: a pod behind a bridge, and one that is routed."""

import secrets
import socket
import subprocess
from contextlib import suppress
from ipaddress import ip_address

from agent.network.behind import addresses_behind, read_kernel
from agent.network.links import links
from overhop.lab import netns
from tests.kubernetes import until


def _ip(*lines: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines), text=True, check=True, capture_output=True)


def test_addresses_behind_a_bridge_and_behind_a_route() -> None:
    suffix = secrets.token_hex(3)
    spaces = netns.create(f"oh-{each}{suffix}" for each in "npq")
    node, pod, routed = spaces
    try:
        with node.entered():
            _ip(
                "link set lo up",
                "link add br0 type bridge",
                "addr add 10.77.0.1/24 dev br0",
                "link set br0 up",
                f"link add vp type veth peer name eth0 netns {pod.name}",
                "link set vp master br0 up",
                f"link add vq type veth peer name eth0 netns {routed.name}",
                "link set vq up",
                "route add 10.77.9.9/32 dev vq",
            )
        with pod.entered():
            _ip("addr add 10.77.0.2/24 dev eth0", "link set eth0 up")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                until("a neighbour", lambda: _found_after_a_packet(sender, node), 10)
    finally:
        netns.delete(spaces)


def _found_after_a_packet(sender: socket.socket, node: netns.Netns) -> bool:
    with suppress(OSError):  # the link is not up yet
        sender.sendto(b"x", ("10.77.0.1", 9))
    with node.entered():
        found = addresses_behind(links(), read_kernel())
    return found == {"vp": (ip_address("10.77.0.2"),), "vq": (ip_address("10.77.9.9"),)}
