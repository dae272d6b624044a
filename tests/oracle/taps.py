# SPDX-License-Identifier: Apache-2.0
"""Live packets: written to TAP devices in several pieces, so that they reach the programs as non-linear skbs.

One device per tracing point, its program at the ingress hook (it does not matter to a program which hook runs
it). With IFF_NAPI_FRAGS (drivers/net/tun.c) the first piece is the linear part, each other a page fragment.
A write returns when the packet has passed: GRO is flushed each time.
"""

import fcntl
import os
import socket
import struct
import subprocess
import zlib
from contextlib import ExitStack
from pathlib import Path
from random import Random

from agent.loading.loader import Loaded
from bpf import syscall
from bpf.record import Point
from tests.oracle.expect import Step

TUN = Path("/dev/net/tun")
MAX_BYTES = 9_500
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NAPI, _IFF_NAPI_FRAGS, _IFF_NO_PI = 0x02, 0x10, 0x20, 0x1000
_TAGS = (b"\x81\x00", b"\x88\xa8")
_MAX_PIECES = 17
_PIECE_BYTES = 4096


class Taps:
    """Transport over TAP devices of this network namespace; skb->sk is null. Use it with `with`."""

    has_socket = False

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._devices: dict[Point, int] = {}
        self._ifindexes: dict[Point, int] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Taps":
        try:
            for point in Point:
                self._add(point)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def seen(self, step: Step) -> Step | None:
        """The kernel takes the outer VLAN tag off before TC; a frame too short for that never arrives."""
        packet = step.packet
        if packet[12:14] in _TAGS:
            if len(packet) < 20:
                return None
            packet = packet[:12] + packet[16:]
        if not 14 <= len(packet) <= MAX_BYTES:
            return None
        return step._replace(packet=packet, ifindex=self._ifindexes[step.point], gso_size=0, gso_segs=0)

    def send(self, step: Step) -> None:
        written = os.writev(self._devices[step.point], pieces(step.packet))
        if written != len(step.packet):
            raise OSError(f"tap of {step.point.label}: {written} of {len(step.packet)} bytes written")

    def _add(self, point: Point) -> None:
        name = f"fuzz-{point.label}"
        fd = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
        self._stack.callback(os.close, fd)
        flags = _IFF_TAP | _IFF_NAPI | _IFF_NAPI_FRAGS | _IFF_NO_PI
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        ifindex = socket.if_nametoindex(name)
        link = syscall.link_create(self._loaded.programs[point.program], ifindex, syscall.TCX_INGRESS)
        self._stack.callback(os.close, link)
        self._devices[point], self._ifindexes[point] = fd, ifindex


def pieces(packet: bytes) -> list[bytes]:
    """The packet cut at places that depend on its bytes only: often within its headers."""
    rng = Random(zlib.crc32(packet))
    wanted = rng.choice((1, 2, 3, 5, _MAX_PIECES - 3))
    cuts = {
        rng.randrange(14, min(len(packet), rng.choice((60, 120, 300, 9_500))) + 1) for _ in range(wanted - 1)
    }
    cuts |= set(range(_PIECE_BYTES, len(packet), _PIECE_BYTES)) | {len(packet)}
    begin, found = 0, []
    for end in sorted(cuts):
        found.append(packet[begin:end])
        begin = end
    return [piece for piece in found if piece]
