# SPDX-License-Identifier: Apache-2.0
"""The filter of the packet socket: what may be TCP with payload, in classic BPF.

It only keeps away what certainly has no part: acknowledgements and everything that is not TCP.
Source: Documentation/networking/filter.rst of Linux.
"""

from struct import pack
from typing import NamedTuple

from overhop.sidecar.packets import Tunnels

_LD_HALF, _LD_BYTE, _LD_MEMORY, _LD_HALF_X, _LD_BYTE_X = 0x28, 0x30, 0x60, 0x48, 0x50
_LDX_HEADER, _ADD_X, _RIGHT, _AND, _STORE, _TO_X = 0xB1, 0x0C, 0x74, 0x54, 0x02, 0x07
_IF_EQUAL, _IF_GREATER_X, _RETURN = 0x15, 0x2D, 0x06
_PROTOCOL = 0xFFFFF000
"""Offset that stands for the packet's EtherType (SKF_AD_OFF + SKF_AD_PROTOCOL)."""
_ALL = 0xFFFFFFFF
_TUNNELS = (4, 41, 47)
_EXTENSIONS = (0, 43, 51, 60)


class _Step(NamedTuple):
    """One instruction; jumps name what they lead to, "" is the next one."""

    code: int
    value: int = 0
    true: str = ""
    false: str = ""
    label: str = ""


def program(tunnels: Tunnels, network: int) -> bytes:
    """Instructions (struct sock_filter) for packets whose network header is at that offset.

    Behind a VLAN tag it is not: such packets are all taken.
    """
    ports = (*tunnels.vxlan, *tunnels.geneve)
    steps = [
        _Step(_LD_HALF, _PROTOCOL),
        _Step(_IF_EQUAL, 0x0800, true="ipv4"),
        _Step(_IF_EQUAL, 0x86DD, true="ipv6"),
        _Step(_IF_EQUAL, 0x8100, true="take"),
        _Step(_IF_EQUAL, 0x88A8, true="take", false="leave"),
        _Step(_LD_BYTE, network + 9, label="ipv4"),
        *(_Step(_IF_EQUAL, number, true="take") for number in _TUNNELS),
        _Step(_IF_EQUAL, 6, true="tcp"),
        _Step(_IF_EQUAL, 17, false="leave"),
        _Step(_LDX_HEADER, network),
        _Step(_LD_HALF_X, network + 2),
        *(_Step(_IF_EQUAL, port, true="take") for port in ports),
        _Step(_RETURN, 0),
        # IPv4 and TCP: take it if its length is more than both headers; 0 stands for a length beyond 64 KiB.
        _Step(_LD_HALF, network + 2, label="tcp"),
        _Step(_IF_EQUAL, 0, true="take"),
        _Step(_STORE, 0),
        _Step(_LDX_HEADER, network),
        _Step(_LD_BYTE_X, network + 12),
        _Step(_RIGHT, 2),
        _Step(_AND, 0x3C),
        _Step(_ADD_X),
        _Step(_TO_X),
        _Step(_LD_MEMORY, 0),
        _Step(_IF_GREATER_X, true="take", false="leave"),
        _Step(_LD_BYTE, network + 6, label="ipv6"),
        *(_Step(_IF_EQUAL, number, true="take") for number in (6, *_TUNNELS, *_EXTENSIONS)),
        _Step(_IF_EQUAL, 17, false="leave"),
        _Step(_LD_HALF, network + 42),
        *(_Step(_IF_EQUAL, port, true="take") for port in ports),
        _Step(_RETURN, 0, label="leave"),
        _Step(_RETURN, _ALL, label="take"),
    ]
    places = {step.label: at for at, step in enumerate(steps) if step.label}
    return b"".join(_packed(step, at, places) for at, step in enumerate(steps))


def _packed(step: _Step, at: int, places: dict[str, int]) -> bytes:
    jumps = (places[label] - at - 1 if label else 0 for label in (step.true, step.false))
    return pack("=HBBI", step.code, *jumps, step.value)
