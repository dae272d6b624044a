# SPDX-License-Identifier: Apache-2.0
"""tunl0, the IPIP device of a node: the kernel's where it has one, else a veth pair and two BPF programs.

The programs (ipip.bpf.c) are clsact filters: encapsulation in the egress of tunl0, so that a packet passes
the NIC's egress hook encapsulated and in the same breath, as behind the kernel's device; decapsulation in
the NIC's ingress, behind a tracer that is first in line (TCX, or clsact with a lower prio).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from agent.hooks import tc
from agent.loading.cache import ProgramCache
from agent.loading.loader import Loaded, LoaderError, load
from agent.network.links import link_by_name
from bpf.spec import ProgramSpec
from overhop.lab.netns import LabError, Netns
from overhop.lab.underlay import NIC, Plot

DEVICE: Final = "tunl0"
SOURCE: Final = Path(__file__).with_name("ipip.bpf.c")
PRIO: Final = 100
"""Behind an agent's clsact filters, which take the least prio that is free."""
HANDLE: Final = 1
NAME_PREFIX: Final = "lab:"
_FAR_END: Final = "tunl0-far"
_PROBE: Final = "ohprobe"
_NO_SUCH_KIND: Final = "Unknown device type"


class Tunnel(ABC):
    """How a lab's nodes get their tunl0."""

    @abstractmethod
    def create(self, place: Netns, plot: Plot) -> None:
        """Make the device of a node whose NIC is up."""

    @abstractmethod
    def neighbours(self, others: Sequence[Plot]) -> list[str]:
        """`ip` commands, for what the routes over the device need to know."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is held outside the nodes' namespaces."""


class KernelTunnel(Tunnel):
    """The kernel's ipip module; it makes a tunl0 in each namespace, unless told not to by sysctl."""

    def create(self, place: Netns, plot: Plot) -> None:  # noqa: ARG002 (routes say all it must know)
        """See Tunnel."""
        with place.entered():
            exists = link_by_name(DEVICE) is not None
        if not exists:
            place.ip((f"link add {DEVICE} type ipip",))

    def neighbours(self, others: Sequence[Plot]) -> list[str]:  # noqa: ARG002 (as above)
        """None: a route's gateway is the outer destination."""
        return []

    def close(self) -> None:
        """Nothing is held."""


class StandIn(Tunnel):
    """A veth named tunl0, whose MAC addresses say to which node a packet goes."""

    def __init__(self) -> None:
        self._loaded: dict[int, Loaded] = {}
        """By index of the NIC. Held as long as the lab, so that the programs have an owner."""

    def create(self, place: Netns, plot: Plot) -> None:
        """See Tunnel. Raises LabError if the programs cannot be compiled or loaded."""
        place.ip(
            (
                f"link add {DEVICE} address {mac(plot.address)} type veth peer name {_FAR_END}",
                f"link set {_FAR_END} up",
            )
        )
        with place.entered():
            device, nic = _index(DEVICE), _index(NIC)
        programs = self._load(nic).programs
        with place.entered():
            _attach(device, tc.EGRESS, "encap", programs["lab_encap"])
            _attach(nic, tc.INGRESS, "decap", programs["lab_decap"])

    def _load(self, nic_ifindex: int) -> Loaded:
        if nic_ifindex not in self._loaded:
            try:
                self._loaded[nic_ifindex] = load(
                    ProgramSpec(),
                    programs=("lab_encap", "lab_decap"),
                    extra_defines=(f"-DNIC_IFINDEX={nic_ifindex}",),
                    source=SOURCE,
                    cache=ProgramCache.of_this_machine(),
                )
            except LoaderError as error:
                raise LabError(f"lab: ipip programs: {error}") from error
        return self._loaded[nic_ifindex]

    def neighbours(self, others: Sequence[Plot]) -> list[str]:
        """The MAC addresses of the other nodes' tunl0."""
        return [
            f"neigh replace {other.address} lladdr {mac(other.address)} dev {DEVICE} nud permanent"
            for other in others
        ]

    def close(self) -> None:
        """See Tunnel."""
        while self._loaded:
            self._loaded.popitem()[1].close()


def tunnel(probe_in: Netns) -> Tunnel:
    """What this kernel allows; a device of its kind is made and removed in the namespace given."""
    try:
        probe_in.ip((f"link add {_PROBE} type ipip local 127.0.0.1 remote 127.0.0.1",))
    except LabError as error:
        if _NO_SUCH_KIND not in str(error):
            raise
        return StandIn()
    probe_in.ip((f"link del {_PROBE}",))
    return KernelTunnel()


def mac(node: IPv4Address) -> str:
    """MAC address of the stand-in on a node."""
    return "02:00:" + node.packed.hex(":")


def _index(name: str) -> int:
    link = link_by_name(name)
    if link is None:
        raise LabError(f"ipip: interface {name} is gone")
    return link.ifindex


def _attach(ifindex: int, parent: int, what: str, prog_fd: int) -> None:
    from agent.hooks import netlink

    netlink.add_clsact(ifindex)
    netlink.add_filter(tc.Filter(ifindex, parent, PRIO, HANDLE, name=f"{NAME_PREFIX}ipip-{what}"), prog_fd)
