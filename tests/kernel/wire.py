# SPDX-License-Identifier: Apache-2.0
"""A veth pair between two namespaces on which exactly known packets pass."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agent.network.links import Link, link_by_name
from overhop.lab.netns import Netns

HERE, THERE, UDP_PORT = "10.77.0.1", "10.77.0.2", 7700
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Wire:
    """veth `v0` in the test's namespace, its peer `v1` in another one; nothing but our datagrams passes."""

    link: Link
    here: socket.socket
    there: socket.socket

    def exchange(self, count: int) -> int:
        """Send datagrams in and back out over v0, one after the other; how many made both ways."""
        done = 0
        for number in range(count):
            payload = struct.pack("=I", number)
            self.there.sendto(payload, (HERE, UDP_PORT))
            if self.here.recv(64) == payload:
                self.here.sendto(payload, (THERE, UDP_PORT))
                done += self.there.recv(64) == payload
        return done


@contextmanager
def stretched(netns: Netns, other: Netns) -> Iterator[Wire]:
    """A wire from `netns`, which the caller is inside of, to `other`: static neighbours, no IPv6."""
    for namespace in (netns, other):
        namespace.sysctl({"net/ipv6/conf/default/disable_ipv6": 1})
    peer = f"peer v1 address 02:00:00:00:00:02 netns {other.name}"
    netns.ip([f"link add v0 address 02:00:00:00:00:01 type veth {peer}"])
    for namespace, name, own, far, mac in (
        (netns, "v0", HERE, THERE, "02:00:00:00:00:02"),
        (other, "v1", THERE, HERE, "02:00:00:00:00:01"),
    ):
        namespace.ip(
            [
                f"addr add {own}/24 dev {name}",
                f"link set {name} up",
                f"neigh replace {far} lladdr {mac} dev {name} nud permanent",
            ]
        )
    link = link_by_name("v0")
    assert link is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here:
        with other.entered():
            there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with there:
            for end, address in ((here, HERE), (there, THERE)):
                end.settimeout(TIMEOUT_S)
                end.bind((address, UDP_PORT))
            yield Wire(link, here, there)
