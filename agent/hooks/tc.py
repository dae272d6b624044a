# SPDX-License-Identifier: Apache-2.0
"""What is in the clsact place of the interfaces: qdiscs and filters, read over rtnetlink (man 8 tc)."""

import socket
import struct
from dataclasses import dataclass
from typing import Final

from agent.network import rtnetlink

INGRESS: Final = 0xFFFFFFF2
"""Parent of the filters on the ingress side (TC_H_CLSACT, TC_H_MIN_INGRESS)."""
EGRESS: Final = 0xFFFFFFF3
_CLSACT_PARENT: Final = 0xFFFFFFF1
_RTM_GETQDISC: Final = 38
_RTM_GETTFILTER: Final = 46
_TCA_KIND: Final = 1
_TCA_OPTIONS: Final = 2
_TCA_CHAIN: Final = 11
_TCA_BPF_NAME: Final = 7
_TCMSG: Final = struct.Struct("=BxxxiIII")


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of a hook."""

    ifindex: int
    parent: int
    """INGRESS or EGRESS."""
    prio: int
    handle: int
    kind: str = "bpf"
    protocol: int = 3
    """EtherType; 3: all."""
    chain: int = 0
    name: str = ""

    @property
    def label(self) -> str:
        """How a person finds it in the output of `tc filter show`."""
        name = f" {self.name}" if self.name else ""
        return f"{self.kind} filter{name} (pref {self.prio}, handle {self.handle:#x})"


def clsact_qdiscs() -> dict[int, str]:
    """Interfaces that have something in the clsact place: clsact, or ingress, which has no egress side.

    Raises OSError.
    """
    request = _TCMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    found = {}
    for message in rtnetlink.dump(_RTM_GETQDISC, request, "list qdiscs"):
        _, ifindex, _, parent, _ = _TCMSG.unpack_from(message.body)
        if parent == _CLSACT_PARENT:
            found[ifindex] = rtnetlink.text(rtnetlink.attributes(message.body[_TCMSG.size :]).get(_TCA_KIND))
    return found


def filters(ifindex: int, parent: int) -> list[Filter]:
    """The filters of one hook in the order in which they run; none if the interface is gone.

    Raises OSError.
    """
    request = _TCMSG.pack(socket.AF_UNSPEC, ifindex, 0, parent, 0)
    found = rtnetlink.dump(_RTM_GETTFILTER, request, f"list filters of interface {ifindex}")
    return [entry for entry in (_filter(message.body, parent) for message in found) if entry.handle]


def _filter(body: bytes, parent: int) -> Filter:
    _, ifindex, handle, _, info = _TCMSG.unpack_from(body)
    found = rtnetlink.attributes(body[_TCMSG.size :])
    kind = rtnetlink.text(found.get(_TCA_KIND))
    options = rtnetlink.attributes(found.get(_TCA_OPTIONS, b"")) if kind == "bpf" else {}
    return Filter(
        ifindex=ifindex,
        parent=parent,
        prio=info >> 16,
        handle=handle,
        kind=kind,
        protocol=socket.ntohs(info & 0xFFFF),
        chain=rtnetlink.u32(found.get(_TCA_CHAIN)),
        name=rtnetlink.text(options.get(_TCA_BPF_NAME)),
    )
