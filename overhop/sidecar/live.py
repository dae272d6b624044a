# SPDX-License-Identifier: Apache-2.0
"""Packets of an interface as they pass: a packet socket with a filter in the kernel (packet(7)).

Neither libpcap nor tcpdump. The socket takes copies; packets are neither changed nor delayed.
"""

import ctypes
import errno
import socket
import time
from collections.abc import Generator
from dataclasses import dataclass
from struct import Struct

from overhop.errors import CommandError, UsageError
from overhop.sidecar.filter import program
from overhop.sidecar.packets import Tunnels
from overhop.sidecar.pcap import Frame

BUFFER_BYTES = 8 << 20
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_ETH_P_ALL = 3
_IP = (0x0800, 0x86DD)
_LINK_RAW, _LINK_SLL = 101, 113
_LARGEST = (1 << 16) + 512
_LOOK_AROUND_S = 0.25
"""How often the clock is looked at where nothing passes."""


class _Program(ctypes.Structure):
    """struct sock_fprog (linux/filter.h)."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


@dataclass(slots=True)
class Listener:
    """A packet socket on one interface of this network namespace."""

    interface: str
    tunnels: Tunnels
    trouble: str = ""
    """Why it ended before its time."""

    def frames(self, seconds: float) -> Generator[Frame, None, None]:
        """Packets that may be TCP with payload, for so long. Raises CommandError, UsageError at the first."""
        deadline_s = time.monotonic() + seconds
        buffer = bytearray(_LARGEST)
        view = memoryview(buffer)
        with self._open() as sock:
            try:
                while (left_s := deadline_s - time.monotonic()) > 0:
                    sock.settimeout(min(left_s, _LOOK_AROUND_S))
                    try:
                        length, address = sock.recvfrom_into(buffer, _LARGEST, socket.MSG_TRUNC)
                    except TimeoutError:
                        continue
                    yield _frame(view[: min(length, _LARGEST)], length, address[1])
            except OSError as error:
                self.trouble = f"interface {self.interface}: {error.strerror}"
            finally:
                self._account(sock)

    def _account(self, sock: socket.socket) -> None:
        """What the socket had no room for."""
        _, lost = Struct("=II").unpack(sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        if lost and not self.trouble:
            self.trouble = f"{lost:,} packets were not looked at: the socket had no room for them"

    def _open(self) -> socket.socket:
        try:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)  # protocol 0: nothing comes yet
        except PermissionError:
            raise CommandError(
                f"interface {self.interface}: a packet socket needs CAP_NET_RAW: run it as root, or take a "
                f"capture where that is allowed (tcpdump -i {self.interface} -s 0 -w FILE tcp) and give it "
                "with --pcap FILE"
            ) from None
        try:
            self._prepare(sock)
        except BaseException:
            sock.close()
            raise
        return sock

    def _prepare(self, sock: socket.socket) -> None:
        instructions = program(self.tunnels)
        held = ctypes.create_string_buffer(instructions, len(instructions))
        attached = _Program(len(instructions) // 8, ctypes.addressof(held))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(attached))
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
        except PermissionError:  # CAP_NET_ADMIN; without it the system's bound applies
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        try:
            sock.bind((self.interface, _ETH_P_ALL))
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise CommandError(f"interface {self.interface}: {error.strerror}") from None
            there = ", ".join(sorted(name for _, name in socket.if_nameindex()))
            raise UsageError(
                f"interface {self.interface}: none of this name in this network namespace: it has {there}"
            ) from None


def _frame(data: memoryview, length: int, ethertype: int) -> Frame:
    """What a cooked packet socket gives: the network header first, and what it is beside it."""
    if ethertype in _IP:
        return Frame(_LINK_RAW, bytes(data), length)
    header = bytes(14) + ethertype.to_bytes(2, "big")
    return Frame(_LINK_SLL, header + data, length + len(header))
