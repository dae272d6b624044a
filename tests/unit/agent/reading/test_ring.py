# SPDX-License-Identifier: Apache-2.0
import os
import platform

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.reading.barrier import barrier_for, membarrier, no_barrier
from agent.reading.ring import RingError, RingReader, RingView
from bpf.record import RECORD
from tests.unit.agent.fake_ring import FakeRing, record


def seqs(batch: np.ndarray) -> list[int]:
    assert batch.dtype == RECORD
    return [int(seq) for seq in batch["seq"]]


def test_read_of_an_empty_ring_returns_no_records() -> None:
    batch = FakeRing().view().read()
    assert batch.dtype == RECORD
    assert len(batch) == 0


def test_read_returns_records_in_order_and_frees_their_room() -> None:
    ring = FakeRing()
    for seq in (7, 8, 9):
        ring.submit(record(seq))
    view = ring.view()
    assert view.pending_bytes == 408
    assert view.lag == 408 / 4096
    assert seqs(view.read()) == [7, 8, 9]
    assert int(ring.consumer[0]) == 408
    assert view.pending_bytes == 0
    assert len(view.read()) == 0


def test_read_returns_a_copy_that_a_later_lap_does_not_change() -> None:
    ring = FakeRing()
    ring.submit(record(1))
    batch = ring.view().read()
    ring.data[:] = 0xFFFF_FFFF_FFFF_FFFF
    assert seqs(batch) == [1]
    assert int(batch["quality"][0]) == 1
    assert batch.flags.writeable


def test_read_across_the_end_of_the_ring_is_seamless() -> None:
    ring = FakeRing()
    view = ring.view()
    seen: list[int] = []
    for lap in range(20):
        for seq in range(lap * 25, lap * 25 + 25):
            ring.submit(record(seq))
        seen += seqs(view.read())
    assert seen == list(range(500))
    assert int(ring.consumer[0]) == 500 * 136


def test_read_of_a_full_ring_at_every_start_returns_all() -> None:
    for start in range(0, 4096, 8):
        ring = FakeRing(position=start)
        for seq in range(30):
            ring.submit(record(seq))
        view = ring.view()
        assert view.lag > 0.99
        assert seqs(view.read()) == list(range(30))


def test_read_stops_before_a_busy_record_and_goes_on_when_it_is_done() -> None:
    ring = FakeRing()
    ring.submit(record(1))
    busy = ring.reserve(record(2))
    ring.submit(record(3))
    view = ring.view()
    assert seqs(view.read()) == [1]
    assert seqs(view.read()) == []
    assert int(ring.consumer[0]) == 136
    ring.commit(busy)
    assert seqs(view.read()) == [2, 3]


def test_read_drops_discarded_records_and_counts_them() -> None:
    ring = FakeRing()
    ring.submit(record(1))
    ring.discard(record(2))
    ring.submit(record(3))
    view = ring.view()
    assert seqs(view.read()) == [1, 3]
    assert view.discarded_records == 1
    assert view.pending_bytes == 0


def test_read_of_discarded_records_only_returns_none_but_frees_the_room() -> None:
    ring = FakeRing()
    ring.discard(record(1))
    ring.discard(record(2))
    view = ring.view()
    assert seqs(view.read()) == []
    assert int(ring.consumer[0]) == 272
    assert view.discarded_records == 2


def test_read_at_the_end_of_64_bit_positions_wraps() -> None:
    ring = FakeRing(position=2**64 - 272)
    view = ring.view()
    for seq in range(5):
        ring.submit(record(seq))
    assert int(ring.producer[0]) == 408
    assert seqs(view.read()) == [0, 1, 2, 3, 4]
    assert int(ring.consumer[0]) == 408


def test_read_with_a_limit_leaves_the_rest_for_the_next_read() -> None:
    ring = FakeRing()
    for seq in range(5):
        ring.submit(record(seq))
    view = ring.view()
    assert seqs(view.read(max_records=2)) == [0, 1]
    assert view.pending_bytes == 3 * 136
    assert seqs(view.read(max_records=3)) == [2, 3, 4]


@pytest.mark.parametrize("length", [1, 8, 120, 129, 136, 256])
def test_read_skips_a_foreign_record_counts_it_and_keeps_ours(length: int) -> None:
    ring = FakeRing()
    ring.submit(record(1))
    ring.submit(b"\x80" * length)
    ring.submit(record(2))
    ring.submit(record(3))
    view = ring.view()
    assert seqs(view.read()) == [1, 2, 3]
    assert view.foreign_records == 1
    assert view.pending_bytes == 0


def test_read_of_a_foreign_record_alone_returns_none_and_counts_it() -> None:
    ring = FakeRing()
    ring.submit(b"x" * 16)
    view = ring.view()
    assert seqs(view.read()) == []
    assert view.foreign_records == 1
    assert view.pending_bytes == 0


def test_read_counts_a_discarded_foreign_record_as_foreign() -> None:
    ring = FakeRing()
    ring.discard(b"x" * 64)
    ring.submit(record(4))
    view = ring.view()
    assert seqs(view.read()) == [4]
    assert (view.foreign_records, view.discarded_records) == (1, 0)


def test_read_waits_for_a_busy_foreign_record() -> None:
    ring = FakeRing()
    ring.submit(record(1))
    busy = ring.reserve(b"x" * 40)
    ring.submit(record(2))
    view = ring.view()
    assert seqs(view.read()) == [1]
    assert view.foreign_records == 0
    ring.commit(busy, length=40)
    assert seqs(view.read()) == [2]
    assert view.foreign_records == 1


def test_read_with_impossible_positions_raises_and_keeps_the_consumer() -> None:
    ring = FakeRing()
    ring.producer[0] = 4104
    with pytest.raises(RingError, match="consumer at 0, producer at 4104"):
        ring.view().read()
    assert int(ring.consumer[0]) == 0


def test_read_with_a_consumer_ahead_of_the_producer_raises() -> None:
    ring = FakeRing(position=272)
    ring.producer[0] = 136
    with pytest.raises(RingError, match="impossible"):
        ring.view().read()


def test_read_of_a_record_that_ends_behind_the_producer_raises() -> None:
    ring = FakeRing()
    position = ring.reserve(b"x" * 16)
    ring.commit(position, length=500)
    with pytest.raises(RingError, match="a record of 500 bytes at 0"):
        ring.view().read()


def test_read_orders_producer_headers_data_and_consumer_with_three_barriers() -> None:
    ring = FakeRing()
    ring.submit(record(1))
    consumer_at_barrier: list[int] = []
    view = RingView(
        ring.consumer, ring.producer, ring.data, lambda: consumer_at_barrier.append(int(ring.consumer[0]))
    )
    view.read()
    assert consumer_at_barrier == [0, 0, 0]
    assert int(ring.consumer[0]) == 136


def test_view_over_memory_of_a_wrong_size_is_refused() -> None:
    one = np.zeros(1, np.uint64)
    with pytest.raises(ValueError, match="not twice a power of two"):
        RingView(one, one, np.zeros(3 * 512, np.uint64), no_barrier)


def test_reader_of_something_that_is_no_ring_names_fd_and_size() -> None:
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(OSError, match=rf"map ring \(fd {read_end}, 4096 bytes\): .*no BPF ring"):
            RingReader(read_end, 4096)
    finally:
        os.close(read_end)
        os.close(write_end)


def test_reader_over_a_mapped_file_reads_and_moves_the_consumer() -> None:
    fd = os.memfd_create("overhop-test-ring")
    try:
        os.ftruncate(fd, 4096 * 4)
        os.pwrite(fd, (136).to_bytes(8, "little"), 4096)
        os.pwrite(fd, (128).to_bytes(8, "little") + record(77), 8192)
        with RingReader(fd, 4096) as reader:
            assert seqs(reader.read()) == [77]
        assert os.pread(fd, 8, 0) == (136).to_bytes(8, "little")
    finally:
        os.close(fd)


def test_barrier_of_x86_64_is_nothing() -> None:
    assert barrier_for("x86_64") is no_barrier


def test_barrier_of_an_unknown_machine_is_refused_by_name() -> None:
    with pytest.raises(RuntimeError, match=r"read ring on riscv64: .*x86-64 and arm64"):
        barrier_for("riscv64")


def test_membarrier_of_this_kernel_needs_no_registration() -> None:
    membarrier(platform.machine())()


STEPS = st.lists(
    st.tuples(st.sampled_from(["submit", "busy", "discard", "foreign", "read"]), st.integers(1, 300)),
    max_size=60,
)


@given(STEPS, st.integers(0, 600).map(lambda n: 8 * n), st.integers(1, 9))
def test_read_of_any_sequence_gives_exactly_the_submitted_records(
    steps: list[tuple[str, int]], position: int, max_records: int
) -> None:
    ring = FakeRing(8192, position=(2**64 - position) % 2**64)
    view = ring.view()
    wanted: list[int] = []
    seen: list[int] = []
    busy: list[int] = []
    foreign = 0
    for number, (step, length) in enumerate(steps):
        if step == "read" or ring.room() < 320:
            seen += seqs(view.read(max_records))
        elif step == "foreign":
            ring.submit(b"\xff" * (length if length != 128 else 127))
            foreign += 1
        elif step == "discard":
            ring.discard(record(number))
        else:
            wanted.append(number)
            at = ring.reserve(record(number))
            if step == "busy":
                busy.append(at)
            else:
                ring.commit(at)
    assert seen == wanted[: len(seen)]
    for at in busy:
        ring.commit(at)
    while view.pending_bytes:
        seen += seqs(view.read(max_records))
    assert seen == wanted
    assert view.foreign_records == foreign
