# SPDX-License-Identifier: Apache-2.0
"""first_wait_ns: how long a packet had waited when nic-in saw it (docs/datapath.md §5)."""

import struct
import time
from collections.abc import Iterator

import pytest

from agent.clock import kernel_clock
from agent.loading.loader import Loaded, load
from agent.reading.ring import RingReader
from bpf import syscall
from bpf.spec import ProgramSpec
from tests.oracle.envelopes import Envelope, Flow
from tests.oracle.generate import ADDRESSES, corpus

SPEC = ProgramSpec(window=64)
REQUEST = b"GET / HTTP/1.1\r\n\r\n"
TSTAMP_AT = 152
MS = 1_000_000


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    with load(SPEC) as programs:
        yield programs


def envelopes() -> tuple[Envelope, Envelope]:
    """IPv4 and IPv6: the second keeps the waiting time in the cold array."""
    return corpus().plain_v4[0], corpus().plain_v6[0]


def first_wait_ns(loaded: Loaded, envelope: Envelope, tstamp: int) -> int:
    """What the record says of a packet that carries this skb->tstamp at nic-in."""
    flow = Flow(ADDRESSES[0], ADDRESSES[1], 40000, 80, tstamp & 0xFFFFFFFF, tstamp >> 32)
    packet = bytes(envelope.fill(flow, REQUEST))
    context = bytearray(192)
    struct.pack_into("<Q", context, TSTAMP_AT, tstamp)
    syscall.map_update(loaded.maps["oh_params"], bytes(4), struct.pack("<Q", kernel_clock().tai_offset_ns))
    with RingReader(loaded.maps["oh_ring"], SPEC.ring_bytes) as ring:
        syscall.prog_test_run(loaded.programs["oh_nic_in"], packet, context=bytes(context))
        syscall.prog_test_run(loaded.programs["oh_vport_out"], packet)
        records = ring.read()
    assert len(records) == 1
    return int(records["first_wait_ns"][0])


@pytest.mark.parametrize("family", [0, 1], ids=["v4", "v6"])
@pytest.mark.parametrize("ago_ns", [1 * MS, 300 * MS])
def test_first_wait_of_a_receive_stamp_is_its_age(loaded: Loaded, family: int, ago_ns: int) -> None:
    envelope = envelopes()[family]  # the corpus takes seconds, once
    begin_ns = time.time_ns()
    wait_ns = first_wait_ns(loaded, envelope, begin_ns - ago_ns)
    assert ago_ns <= wait_ns <= ago_ns + time.time_ns() - begin_ns


def test_first_wait_of_a_monotonic_stamp_is_zero(loaded: Loaded) -> None:
    assert first_wait_ns(loaded, envelopes()[0], time.monotonic_ns()) == 0


def test_first_wait_of_a_stamp_in_the_future_is_zero(loaded: Loaded) -> None:
    assert first_wait_ns(loaded, envelopes()[0], time.time_ns() + 3_600_000 * MS) == 0


def test_first_wait_without_stamp_is_zero(loaded: Loaded) -> None:
    assert first_wait_ns(loaded, envelopes()[1], 0) == 0
