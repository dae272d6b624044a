# SPDX-License-Identifier: Apache-2.0
"""The packet socket of `overhop sidecar verify`: what its filter lets pass, how it is shown, what is lost."""

import fcntl
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from overhop.lab.netns import Netns
from overhop.sidecar import live
from overhop.sidecar.live import Listener
from overhop.sidecar.packets import Segment, Tunnels, Why, segment_of
from tests.kernel.wire import stretched
from tests.oracle.taps import TUN
from tests.require import require
from tests.unit.handmade import DST4, DST6, GET, SRC4, SRC6, TCP, UDP_GENEVE, UDP_VXLAN, VXLAN, ipv4, ipv6

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x01, 0x1000
MACS = bytes.fromhex("020000000001020000000002")
V4, V6 = MACS + b"\x08\x00", MACS + b"\x86\xdd"
LAST_PAYLOAD = b"the last one"
LAST = V4 + ipv4(TCP + LAST_PAYLOAD)
OF_V4 = Segment(SRC4, DST4, 40000, 8080, 3, 4, False, GET, len(GET))
OF_V6 = OF_V4._replace(src=SRC6, dst=DST6)
BRIDGED = V4 + ipv4(TCP + GET)
GENEVE = bytes.fromhex("0000655800000100")
OPTIONS = bytes.fromhex("0600010400000000")
DNS = bytes.fromhex("c35000350000 0000")
TWELVE_OPTIONS = bytearray(TCP)
TWELVE_OPTIONS[12] = 0x80


@pytest.fixture
def peer(netns: Netns, new_netns: Callable[[], Netns]) -> Iterator[socket.socket]:
    """Sends frames into `v0` of the test's namespace."""
    other = new_netns()
    with stretched(netns, other):
        with other.entered():
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with made:
            made.bind(("v1", 0))
            yield made


def heard(peer: socket.socket, *frames: bytes) -> list[Segment | Why]:
    """What the frames are to a listener, up to LAST."""
    found: list[Segment | Why] = []
    with closing(Listener("v0", Tunnels()).frames(20)) as coming:
        for frame in (*frames, LAST):
            peer.send(frame)
        for taken in coming:
            found.append(segment_of(taken, Tunnels()))
            if isinstance(found[-1], Segment) and found[-1].data == LAST_PAYLOAD:
                break
    return found[:-1]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (V4 + ipv4(TCP + GET), OF_V4),
        (V6 + ipv6(TCP + GET), OF_V6),
        (V4 + ipv4(TCP + GET) + bytes(9), OF_V4),
        (V4 + ipv4(bytes(TWELVE_OPTIONS) + bytes(12) + GET), OF_V4),
        (MACS + b"\x81\0\0\5\x08\0" + ipv4(TCP + GET), OF_V4),
        (MACS + b"\x88\xa8\0\6\x81\0\0\5\x86\xdd" + ipv6(TCP + GET), OF_V6),
        (V4 + ipv4(UDP_VXLAN + VXLAN + BRIDGED, 17), OF_V4),
        (V6 + ipv6(UDP_VXLAN + VXLAN + BRIDGED, 17), OF_V4),
        (V4 + ipv4(UDP_GENEVE + GENEVE + BRIDGED, 17), OF_V4),
        (V4 + ipv4(ipv4(TCP + GET), 4), OF_V4),
        (V4 + ipv4(ipv6(TCP + GET), 41), OF_V6),
        (V4 + ipv4(b"\0\0\x08\0" + ipv4(TCP + GET), 47), OF_V4),
        (V6 + ipv6(OPTIONS + TCP + GET, 60), OF_V6),
        (V4 + ipv4(TCP + GET, flags="2000"), Why.FRAGMENT),
        (V6 + ipv6(b"\x06" + bytes(7) + TCP + GET, 44), None),
    ],
    ids=lambda value: None if isinstance(value, tuple) else "",
)
def test_listener_shows_what_may_carry_a_request(
    peer: socket.socket, frame: bytes, expected: Segment | Why | None
) -> None:
    assert heard(peer, frame) == ([] if expected is None else [expected])


def test_listener_does_not_show_what_certainly_carries_none(peer: socket.socket) -> None:
    """Acknowledgements, names, ARP, ICMP: the kernel keeps them away."""
    others = (
        V4 + ipv4(TCP),
        V4 + ipv4(TCP) + bytes(6),
        V4 + ipv4(bytes(TWELVE_OPTIONS) + bytes(12)),
        V4 + ipv4(DNS + GET, 17),
        V6 + ipv6(DNS + GET, 17),
        V4 + ipv4(GET, 1),
        V6 + ipv6(GET, 58),
        MACS + b"\x08\x06" + bytes(28),
        MACS + b"\x88\xcc" + bytes(28),
    )
    assert heard(peer, *others) == []


def test_listener_on_an_interface_without_ethernet_shows_the_same(netns: Netns) -> None:
    require(TUN.exists(), f"{TUN}")
    with TUN.open("r+b", buffering=0) as device:
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
        netns.ip(["link set tun0 up"])
        found = []
        with closing(Listener("tun0", Tunnels()).frames(20)) as coming:
            for packet in (ipv4(TCP), ipv4(DNS, 17), ipv4(TCP + GET), ipv6(TCP + GET)):
                device.write(packet)
            found = [segment_of(next(coming), Tunnels()) for _ in range(2)]
    assert found == [OF_V4, OF_V6]


def test_listener_that_is_too_slow_says_how_much_it_lost(
    peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "BUFFER_BYTES", 0)
    listener = Listener("v0", Tunnels())
    with closing(listener.frames(20)) as coming:
        for _ in range(500):
            peer.send(V4 + ipv4(TCP + GET))
        next(coming)
    assert listener.trouble.endswith(" packets were not looked at: the socket had no room for them")
    assert 300 < int(listener.trouble.partition(" ")[0]) < 500


def test_listener_leaves_no_socket(peer: socket.socket) -> None:
    assert heard(peer) == []
    with open("/proc/thread-self/net/packet") as sockets:
        assert len(sockets.readlines()) == 1
