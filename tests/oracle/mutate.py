# SPDX-License-Identifier: Apache-2.0
"""Fast changes of a packet's bytes, weighted to its headers, its length fields and the header lines."""

from random import Random

from tests.oracle.envelopes import Envelope

NEAR = (
    0,
    1,
    4,
    5,
    6,
    8,
    20,
    40,
    0x3FFF,
    0x4000,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x0800,
    0x86DD,
    0x8100,
    0x88A8,
    0x6558,
)
PROTOCOLS = (0, 1, 4, 6, 17, 41, 43, 44, 47, 50, 51, 59, 60, 135, 139, 140)
BYTES = b"\r\n:- \t0bBtTxX\0\xff"


def mutate(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """Change `packet` in place, once or a few times."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if len(packet) > 14:
            rng.choice(MUTATIONS)(rng, packet, envelope)


def flip_header_bit(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """One bit of the headers in front of the payload."""
    packet[rng.randrange(min(len(packet), len(envelope.head)))] ^= 1 << rng.randrange(8)


def set_header_byte(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """One byte of the headers behind the addresses of the outer Ethernet."""
    end = min(len(packet), len(envelope.head))
    packet[rng.randrange(12, max(end, 13))] = rng.choice(
        (0, 1, 4, 6, 17, 41, 43, 44, 47, 51, 60, rng.randrange(256))
    )


def set_length(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """A length field: a little wrong, or very wrong."""
    at = rng.choice(envelope.lengths)[0] if envelope.lengths else 12
    if at + 2 > len(packet):
        return
    value = int.from_bytes(packet[at : at + 2], "big")
    if rng.random() < 0.7:
        value = (value + rng.choice((-41, -40, -20, -8, -4, -2, -1, 1, 2, 4, 8, 20, 100))) & 0xFFFF
    else:
        value = rng.choice(NEAR)
    packet[at : at + 2] = value.to_bytes(2, "big")


def set_header_word(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """Any 16 bits of the headers: a value that means something somewhere."""
    at = rng.randrange(12, max(13, min(len(packet), len(envelope.head)) - 1))
    packet[at : at + 2] = rng.choice(NEAR).to_bytes(2, "big")


def set_ihl_or_offset(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """IHL and version, or TCP's data offset."""
    at = envelope.tcp + 12 if envelope.tcp and rng.random() < 0.5 else envelope.addresses[0] - 12
    if 0 <= at < len(packet):
        packet[at] = rng.randrange(256)


def cut(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """Lose the end, within the headers or anywhere."""
    end = len(packet) if rng.random() < 0.5 else min(len(packet), len(envelope.head) + 9)
    del packet[rng.randrange(14, max(end, 15)) :]


def pad(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """Bytes behind the IP packet, as Ethernet pads short frames."""
    packet += rng.choice((bytes(46), b"\r\n", b"\r\n\r\n", b"\n", b"traceparent:", b"\xff" * 9))


def set_payload_byte(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """A byte of the header lines: one that means something there."""
    if len(packet) > len(envelope.head):
        packet[rng.randrange(len(envelope.head), len(packet))] = rng.choice(BYTES)


def flip_payload_bit(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """One bit of the payload."""
    if len(packet) > len(envelope.head):
        packet[rng.randrange(len(envelope.head), len(packet))] ^= 1 << rng.randrange(8)


def repeat_payload(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """Copy a piece of the payload over another one."""
    if len(packet) - len(envelope.head) > 70:
        size = rng.choice((1, 2, 3, 8, 13, 60))
        source, target = (rng.randrange(len(envelope.head), len(packet) - size) for _ in range(2))
        packet[target : target + size] = packet[source : source + size]


def drop_payload_byte(rng: Random, packet: bytearray, envelope: Envelope) -> None:
    """Lose a byte: everything behind moves within its 8-byte word."""
    if len(packet) > len(envelope.head):
        del packet[rng.randrange(len(envelope.head), len(packet))]


MUTATIONS = (
    flip_header_bit,
    flip_header_bit,
    set_header_byte,
    set_length,
    set_length,
    set_header_word,
    set_ihl_or_offset,
    cut,
    pad,
    set_payload_byte,
    set_payload_byte,
    flip_payload_bit,
    repeat_payload,
    drop_payload_byte,
)
