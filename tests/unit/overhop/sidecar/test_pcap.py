# SPDX-License-Identifier: Apache-2.0
"""Capture files: literal bytes, what scapy writes, damage anywhere, any bytes."""

from io import BytesIO
from pathlib import Path
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Raw
from scapy.utils import PcapNgWriter, PcapWriter, rdpcap

from overhop.errors import UsageError
from overhop.sidecar.pcap import CaptureFile, Frame


def read(data: bytes) -> tuple[list[Frame], str]:
    capture = CaptureFile(BytesIO(data), "x.pcap")
    return list(capture.frames()), capture.damage


def pcap(order: str, magic: int, *packets: tuple[bytes, int], link: int = 1) -> bytes:
    head = pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    return head + b"".join(pack(order + "IIII", 1, 2, len(data), length) + data for data, length in packets)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return pack(order + "II", kind, len(body) + 12) + body + pack(order + "I", len(body) + 12)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str, link: int, snap_length: int = 0) -> bytes:
    return block(order, 1, pack(order + "HHI", link, 0, snap_length))


def packet(order: str, number: int, data: bytes, length: int) -> bytes:
    return block(order, 6, pack(order + "IIIII", number, 1, 2, len(data), length) + data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D])
def test_frames_of_pcap_in_both_orders_and_resolutions(order: str, magic: int) -> None:
    data = pcap(order, magic, (b"abc", 3), (b"de", 90), (b"", 0), link=113)
    assert read(data) == ([Frame(113, b"abc", 3), Frame(113, b"de", 90), Frame(113, b"", 0)], "")


@pytest.mark.parametrize("order", ["<", ">"])
def test_frames_of_pcapng_know_their_interface(order: str) -> None:
    data = section(order) + interface(order, 1) + block(order, 4, b"names") + interface(order, 276)
    data += packet(order, 1, b"abcde", 5) + packet(order, 0, b"fg", 60)
    assert read(data) == ([Frame(276, b"abcde", 5), Frame(1, b"fg", 60)], "")


def test_frames_of_pcapng_sections_have_interfaces_and_order_of_their_own() -> None:
    data = section("<") + interface("<", 1) + packet("<", 0, b"a", 1)
    data += section(">") + interface(">", 101) + packet(">", 0, b"b", 1)
    assert read(data) == ([Frame(1, b"a", 1), Frame(101, b"b", 1)], "")


def test_frames_of_simple_and_old_packet_blocks() -> None:
    data = section("<") + interface("<", 1, snap_length=4)
    data += block("<", 3, pack("<I", 9) + b"abcd")
    data += block("<", 2, pack("<HHIIII", 0, 0, 1, 2, 3, 7) + b"efg")
    assert read(data) == ([Frame(1, b"abcd", 9), Frame(1, b"efg", 7)], "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x.pcap: is empty"),
        (b"GET / HTTP/1.1", "x.pcap: is neither pcap nor pcapng"),
        (b"\x1f\x8b\x08\0", "x.pcap: is compressed: unpack it first (gunzip)"),
        (b"OVERHOPR", "x.pcap: is not a capture of packets: is it a recording of the agent?"),
        (b"\xd4\xc3\xb2\xa1\2\0", "x.pcap: ends within its header"),
        (b"\x0a\x0d\x0d\x0a\x1c\0\0\0", "x.pcap: ends within a block"),
        (b"\x0a\x0d\x0d\x0a" + bytes(24), "x.pcap: is damaged: a section without a byte order"),
    ],
)
def test_frames_of_what_is_no_capture_is_wrong_usage(data: bytes, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(data)
    assert str(raised.value) == message


def test_frames_of_a_pcap_that_ends_within_a_packet_are_those_before() -> None:
    data = pcap("<", 0xA1B2C3D4, (b"abc", 3), (b"def", 3))
    assert read(data[:-1]) == ([Frame(1, b"abc", 3)], "ends within a packet")
    assert read(data[:-9]) == ([Frame(1, b"abc", 3)], "ends within a packet")


def test_frames_of_a_pcap_with_a_huge_packet_end_there() -> None:
    data = pcap("<", 0xA1B2C3D4, (b"abc", 3)) + pack("<IIII", 1, 2, 1 << 31, 1 << 31) + b"x" * 50
    assert read(data) == ([Frame(1, b"abc", 3)], "is damaged: a packet of 2147483648 bytes")


@pytest.mark.parametrize(
    ("more", "damage"),
    [
        (packet("<", 7, b"a", 1), "a packet of an interface that is not described, or too short"),
        (block("<", 6, b"abcd"), "a block is too short"),
        (pack("<II", 6, 13), "a block of 13 bytes"),
        (pack("<II", 6, 1 << 30), "a block of 1073741824 bytes"),
        (pack("<IIII", 9, 16, 0, 20), "a block has two lengths"),
    ],
)
def test_frames_of_damaged_pcapng_are_those_before(more: bytes, damage: str) -> None:
    data = section("<") + interface("<", 1) + packet("<", 0, b"a", 1) + more
    assert read(data) == ([Frame(1, b"a", 1)], f"is damaged: {damage}")


PACKETS = [
    bytes(Ether() / IP(src="10.0.0.1") / TCP(sport=number) / Raw(b"x" * number)) for number in range(40)
]


def test_frames_of_what_scapy_wrote_as_pcap_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.pcap"
    with PcapWriter(str(file), linktype=1) as writer:
        writer.write([Raw(data) for data in PACKETS])
    assert read(file.read_bytes()) == ([Frame(1, data, len(data)) for data in PACKETS], "")


def test_frames_of_what_scapy_wrote_as_pcapng_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "a.pcapng"
    with PcapNgWriter(str(file)) as writer:
        writer.write([Ether(data) for data in PACKETS])
    assert read(file.read_bytes()) == ([Frame(1, data, len(data)) for data in PACKETS], "")


def test_what_is_written_by_hand_here_is_what_scapy_reads(tmp_path: Path) -> None:
    file = tmp_path / "b.pcapng"
    written = section(">") + interface(">", 1) + b"".join(packet(">", 0, each, 90) for each in PACKETS)
    file.write_bytes(written)
    assert [bytes(each) for each in rdpcap(str(file))] == PACKETS
    assert [frame.data for frame in read(written)[0]] == PACKETS


WHOLE = (
    pcap("<", 0xA1B2C3D4, *((data, len(data)) for data in PACKETS[:5])),
    section("<") + interface("<", 1) + b"".join(packet("<", 0, data, len(data)) for data in PACKETS[:5]),
)


@settings(max_examples=1500, deadline=None)
@given(
    st.sampled_from(WHOLE),
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 255)), max_size=4),
)
def test_frames_of_a_damaged_file_are_frames_or_wrong_usage(
    data: bytes, end: int, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    try:
        frames, _ = read(bytes(damaged[:end]))
    except UsageError:
        return
    assert all(frame.length >= len(frame.data) for frame in frames)
