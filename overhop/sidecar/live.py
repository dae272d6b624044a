# SPDX-License-Identifier: Apache-2.0
"""Packets of an interface as they pass: a packet socket with a filter in the kernel (packet(7)).

Neither libpcap nor tcpdump. The socket takes copies; packets are neither changed nor delayed.
"""

import ctypes
import fcntl
import socket
import time
from collections.abc import Generator
from dataclasses import dataclass
from struct import Struct

from overhop.errors import CommandError, UsageError
from overhop.sidecar.packet_filter import program
from overhop.sidecar.packets import Tunnels
from overhop.sidecar.pcap import Frame

BUFFER_BYTES = 8 << 20
_SO_ATTACH_FILTER, _SO_RCVBUFFORCE = 26, 33
_SOL_PACKET, _PACKET_STATISTICS = 263, 6
_ETH_P_ALL = 3
_SIOCGIFHWADDR = 0x8927
_ETHERNET_TYPES = (1, 772)
"""ARPHRD_ETHER, ARPHRD_LOOPBACK."""
_ETHERNET_BYTES = 14
_HARDWARE = Struct("16sH22x")
"""struct ifreq (netdevice(7)) with an address."""
_LINK_ETHERNET, _LINK_RAW = 1, 101
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
        """Packets that may be TCP with payload, from now on. Raises CommandError, UsageError."""
        return self._taken(self._open(), time.monotonic() + seconds)

    def _taken(self, opened: socket.socket, deadline_s: float) -> Generator[Frame, None, None]:
        link = _LINK_ETHERNET if opened.type == socket.SOCK_RAW else _LINK_RAW
        buffer = bytearray(_LARGEST)
        view = memoryview(buffer)
        with opened as sock:
            try:
                while (left_s := deadline_s - time.monotonic()) > 0:
                    sock.settimeout(min(left_s, _LOOK_AROUND_S))
                    try:
                        length = sock.recv_into(buffer, _LARGEST, socket.MSG_TRUNC)
                    except TimeoutError:
                        continue
                    yield Frame(link, bytes(view[: min(length, _LARGEST)]), length)
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
            is_ethernet = self._hardware_type() in _ETHERNET_TYPES
        except OSError as error:  # it went away meanwhile
            raise CommandError(f"interface {self.interface}: {error.strerror}") from None
        try:
            # Protocol 0: nothing comes before there is a filter. What has no Ethernet header begins with IP.
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW if is_ethernet else socket.SOCK_DGRAM, 0)
        except PermissionError:
            raise CommandError(
                f"interface {self.interface}: a packet socket needs CAP_NET_RAW: run it as root, ask the "
                "agent that runs here (--agent), or take a capture "
                f"(tcpdump -i {self.interface} -s 0 -w FILE tcp) and give it with --pcap FILE"
            ) from None
        try:
            self._prepare(sock, _ETHERNET_BYTES if is_ethernet else 0)
        except OSError as error:
            sock.close()
            raise CommandError(f"interface {self.interface}: {error.strerror}") from None
        return sock

    def _hardware_type(self) -> int:
        """ARPHRD_ of linux/if_arp.h. Raises UsageError if there is no such interface."""
        names = {name for _, name in socket.if_nameindex()}
        if self.interface not in names:
            raise UsageError(
                f"interface {self.interface}: none of this name in this network namespace: it has "
                + ", ".join(sorted(names))
            )
        request = _HARDWARE.pack(self.interface.encode(), 0)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            _, found = _HARDWARE.unpack(fcntl.ioctl(asked, _SIOCGIFHWADDR, request))
        return int(found)

    def _prepare(self, sock: socket.socket, network: int) -> None:
        instructions = program(self.tunnels, network)
        held = ctypes.create_string_buffer(instructions, len(instructions))
        attached = _Program(len(instructions) // 8, ctypes.addressof(held))
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(attached))
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
        except PermissionError:  # CAP_NET_ADMIN; without it the system's bound applies
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        sock.bind((self.interface, _ETH_P_ALL))
