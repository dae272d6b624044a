# SPDX-License-Identifier: Apache-2.0
"""An in-memory BPF ring buffer: what kernel/bpf/ringbuf.c does to the memory, record by record."""

import numpy as np

from agent.reading.barrier import no_barrier
from agent.reading.ring import BUSY, DISCARD, RingView
from bpf.record import RECORD


class FakeRing:
    """Three arrays shaped like the mapped ring, and the producer's side of the protocol."""

    def __init__(self, ring_bytes: int = 4096, position: int = 0) -> None:
        self.size = ring_bytes
        self.consumer = np.array([position], np.uint64)
        self.producer = np.array([position], np.uint64)
        self.data = np.zeros(2 * ring_bytes // 8, np.uint64)
        self.bytes = self.data.view(np.uint8)

    def view(self) -> RingView:
        return RingView(self.consumer, self.producer, self.data, no_barrier)

    def reserve(self, data: bytes) -> int:
        """A busy record with `data`; returns its position. Fails as the kernel does if there is no room."""
        position = int(self.producer[0])
        size = 8 + (len(data) + 7) // 8 * 8
        used = (position + size - int(self.consumer[0])) % 2**64
        assert used < self.size, "ring is full"
        self._header(position, len(data) | BUSY)
        for at, value in enumerate(data):
            self._byte(position + 8 + at, value)
        self.producer[0] = (position + size) % 2**64
        return position

    def submit(self, data: bytes) -> None:
        self._header(self.reserve(data), len(data))

    def commit(self, position: int, length: int = 128) -> None:
        self._header(position, length)

    def discard(self, data: bytes) -> None:
        self._header(self.reserve(data), len(data) | DISCARD)

    def room(self) -> int:
        """Bytes that can still be reserved."""
        return self.size - 1 - (int(self.producer[0]) - int(self.consumer[0])) % 2**64

    def _header(self, position: int, value: int) -> None:
        for at, byte in enumerate(value.to_bytes(4, "little")):
            self._byte(position + at, byte)

    def _byte(self, position: int, value: int) -> None:
        at = position % self.size
        self.bytes[at] = self.bytes[at + self.size] = value


def record(seq: int) -> bytes:
    """A record's bytes that carry `seq` and, at the very end, its low byte as quality."""
    row = np.zeros(1, RECORD)
    row["seq"] = seq
    row["quality"] = seq & 0xFF
    return row.tobytes()
