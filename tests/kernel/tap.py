# SPDX-License-Identifier: Apache-2.0
"""What crosses an interface, as frames."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from overhop.lab.netns import Netns

ETH_P_ALL = 3


@contextmanager
def tap(place: Netns, ifname: str) -> Iterator[list[bytes]]:
    """Collects the frames that cross an interface while the block runs."""
    frames: list[bytes] = []
    with place.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind((ifname, ETH_P_ALL))
        yield frames
        sock.setblocking(False)
        while True:
            try:
                frames.append(sock.recv(1 << 17))
            except BlockingIOError:
                return
