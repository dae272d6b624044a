# SPDX-License-Identifier: Apache-2.0
"""Ring, counters and slots of the real program, filled by BPF_PROG_TEST_RUN: nothing is attached."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.clock import boot_id, take_offset
from agent.hops.summary import by_kind
from agent.loading.loader import Loaded, load
from agent.reading.counters import CounterReader
from agent.reading.ring import RingReader
from agent.reading.slots import count_waiting, waiting_stamps
from agent.sockets.recording import Recorder, RecordingHeader, read_recording
from bench.request import request_packet
from bpf import syscall
from bpf.counters import imbalances
from bpf.record import RECORD, Kind, Point, address_text
from bpf.spec import ProgramSpec

SPEC = ProgramSpec(window=256, ring_bytes=64 << 10)
RING_RECORDS = (SPEC.ring_bytes - 8) // 136


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    programs = ("oh_nic_in", "oh_vport_out", "oh_bench_pair")
    with load(SPEC, programs=programs, extra_defines=("-DBENCH",)) as made:
        yield made


@pytest.fixture
def ring(loaded: Loaded) -> Iterator[RingReader]:
    with RingReader(loaded.maps["oh_ring"], SPEC.ring_bytes) as reader:
        assert reader.pending_bytes == 0
        yield reader


@pytest.fixture
def counted(loaded: Loaded) -> Callable[[], dict[str, int]]:
    """The counters since the test began, with `waiting`."""

    def now() -> dict[str, int]:
        waiting = count_waiting(loaded.maps["oh_slots"], SPEC.sets)
        return CounterReader(loaded.maps["oh_counters"]).read() | {"waiting": waiting}

    before = now()
    return lambda: {name: count - before[name] for name, count in now().items()}


def run_pairs(loaded: Loaded, count: int) -> None:
    """`count` hops in one call, each with a key of its own."""
    syscall.prog_test_run(loaded.programs["oh_bench_pair"], request_packet(), repeat=count)


def test_ring_reader_reads_the_hop_that_the_program_saw(loaded: Loaded, ring: RingReader) -> None:
    packet = request_packet(seq=0x01020304, ack=0x05060708)
    before_ns = time.monotonic_ns()
    syscall.prog_test_run(loaded.programs["oh_nic_in"], packet)
    syscall.prog_test_run(loaded.programs["oh_vport_out"], packet)
    (hop,) = ring.read()
    assert before_ns < int(hop["second_ns"]) < time.monotonic_ns()
    assert 0 < int(hop["latency_ns"]) < 1_000_000_000
    assert (int(hop["seq"]), int(hop["ack"])) == (0x01020304, 0x05060708)
    assert hop["trace_id"].tobytes().hex() == "0af7651916cd43dd8448eb211c80319c"
    assert hop["span_id"].tobytes().hex() == "b7ad6b7169203331"
    assert (address_text(hop["src"].tobytes()), int(hop["sport"])) == ("10.244.1.2", 40000)
    assert (address_text(hop["dst"].tobytes()), int(hop["dport"])) == ("10.244.2.3", 8080)
    assert int(hop["kind_message"]) == Kind.RX
    assert len(ring.read()) == 0


def test_ring_reader_over_many_laps_reads_every_hop_once(
    loaded: Loaded, ring: RingReader, counted: Callable[[], dict[str, int]]
) -> None:
    batches = []
    for size in (1, 7, RING_RECORDS, 300, 2) * 20:
        run_pairs(loaded, size)
        batches.append(ring.read())
        assert len(batches[-1]) == size
    hops = np.concatenate(batches)
    assert len(hops) == (1 + 7 + RING_RECORDS + 302) * 20 == counted()["records"]
    assert (np.diff(hops["second_ns"].astype(np.int64)) > 0).all()
    assert ring.foreign_records == 0
    assert by_kind(hops)["rx"].count == len(hops)


def test_ring_reader_of_an_overrun_ring_reads_what_fitted_and_the_rest_is_counted(
    loaded: Loaded, ring: RingReader, counted: Callable[[], dict[str, int]]
) -> None:
    run_pairs(loaded, RING_RECORDS + 100)
    assert ring.lag > 0.99
    assert len(ring.read()) == RING_RECORDS
    assert (counted()["records"], counted()["ring_full"]) == (RING_RECORDS, 100)
    run_pairs(loaded, 5)
    assert len(ring.read()) == 5


def test_ring_reader_beside_a_writing_cpu_loses_and_tears_nothing(
    loaded: Loaded, ring: RingReader, counted: Callable[[], dict[str, int]]
) -> None:
    wanted, done = 200_000, threading.Event()

    def produce() -> None:
        for _ in range(10):
            run_pairs(loaded, wanted // 10)
        done.set()

    producer = threading.Thread(target=produce)
    producer.start()
    batches: list[np.ndarray] = []
    while not done.is_set() or ring.pending_bytes:
        if ring.lag > 0.1 or done.is_set():
            batches.append(ring.read())
    producer.join()
    hops = np.concatenate(batches)
    assert len(hops) == counted()["records"]
    assert counted()["records"] + counted()["ring_full"] == wanted
    assert len(hops) > 10 * RING_RECORDS, "the reader was not beside the writer"
    assert set(np.unique(hops["kind_message"])) == {Kind.RX}
    assert set(np.unique(hops["payload_len"])) == {len(request_packet()) - 54}
    assert len(np.unique(hops["second_ns"])) == len(hops)
    assert ring.foreign_records == 0


def test_counters_and_slots_of_waiting_stamps_add_up(
    loaded: Loaded, ring: RingReader, counted: Callable[[], dict[str, int]]
) -> None:
    for seq in range(10):
        syscall.prog_test_run(loaded.programs["oh_nic_in"], request_packet(seq=seq))
    for seq in (2, 5, 77):
        syscall.prog_test_run(loaded.programs["oh_vport_out"], request_packet(seq=seq))
    found = counted()
    assert (found["first"], found["second"], found["taken"], found["waiting"]) == (10, 3, 2, 8)
    assert found["unmatched_local"] == 1
    assert imbalances(found) == {"first": 0, "second": 0, "taken": 0}
    assert len(ring.read()) == 2
    stamps = waiting_stamps(loaded.maps["oh_slots"], SPEC.sets, time.monotonic_ns())
    assert len(stamps) == 8
    assert {(stamp.point, stamp.dst, stamp.sport, stamp.dport) for stamp in stamps} == {
        (Point.NIC_IN, "10.244.2.3", 40000, 8080)
    }
    assert all(0 < stamp.age_ns < 60_000_000_000 for stamp in stamps)


def test_recording_of_the_ring_is_what_the_reader_saw(
    loaded: Loaded, ring: RingReader, tmp_path: Path
) -> None:
    header = RecordingHeader(SPEC.digest(), "source", "node", boot_id(), take_offset())
    recorder = Recorder(lambda: header)
    recorder.start(str(tmp_path / "hops"))
    run_pairs(loaded, 300)
    batch = ring.read()
    recorder.write(batch)
    assert recorder.close()
    found, hops = read_recording(tmp_path / "hops")
    assert found == header
    assert hops.dtype == RECORD
    assert hops.tobytes() == batch.tobytes()
