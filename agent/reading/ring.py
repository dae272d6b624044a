# SPDX-License-Identifier: Apache-2.0
"""The BPF ring buffer, read as a numpy structured array without any Python per record.

Layout: Documentation/bpf/ringbuf.rst and kernel/bpf/ringbuf.c: one page with the consumer position, one with
the producer position, the data mapped twice. A ring record is a header (u32 length with BUSY and DISCARD in
the two top bits, u32 page offset) and the data, rounded up to 8 bytes; positions are u64 and only grow.
"""

import mmap
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from agent.reading.barrier import Barrier, barrier_for
from agent.reading.memory import RecordMemory
from bpf.record import RECORD, RECORD_BYTES, RING_STRIDE

BUSY = 1 << 31
DISCARD = 1 << 30
LENGTH_MASK = DISCARD - 1
POSITION_MASK = (1 << 64) - 1
HEADER_BYTES = 8
_PLAIN = RECORD_BYTES.to_bytes(4, "little")
"""First half of the header of a record of ours that is there."""
_OPAQUE = np.dtype((np.void, RECORD_BYTES))
"""Copied as one piece: numpy copies strided RECORD field by field, three times slower."""

Records = npt.NDArray[np.void]
"""An array of bpf.record.RECORD."""


class RingError(RuntimeError):
    """The ring's positions or headers contradict each other; nothing in it can be trusted."""


class RingView:
    """The logic of reading, over any memory of the right shape.

    `consumer` and `producer`: u64 arrays of length 1 (consumer writable). `data`: u64 array of the data,
    mapped twice in a row. `barrier` orders loads and stores as the machine needs it.
    """

    def __init__(
        self,
        consumer: npt.NDArray[np.uint64],
        producer: npt.NDArray[np.uint64],
        data: npt.NDArray[np.uint64],
        barrier: Barrier,
    ) -> None:
        self.ring_bytes = data.nbytes // 2
        if data.dtype != np.uint64 or data.nbytes % 16 or self.ring_bytes & (self.ring_bytes - 1):
            raise ValueError(
                f"ring data: {data.nbytes} bytes of {data.dtype} are not twice a power of two of u64"
            )
        self.foreign_records = 0
        """Records of another length than ours that were skipped; 0 unless a stranger writes to this ring."""
        self.discarded_records = 0
        """Records that the program gave back."""
        self._consumer = consumer.data
        self._producer = producer.data
        self._data = data
        self._barrier = barrier
        self._memory = RecordMemory(_OPAQUE)
        self._empty = np.empty(0, RECORD)
        self._empty.flags.writeable = False

    @property
    def pending_bytes(self) -> int:
        """Bytes between consumer and producer, headers included. Raises RingError if they exceed the ring."""
        return self._pending(self._consumer[0], self._producer[0])

    @property
    def lag(self) -> float:
        """Share of the ring that waits to be read, 0 to 1; near 1 the program loses records (`ring_full`)."""
        return self.pending_bytes / self.ring_bytes

    def read(self, max_records: int = 65_536) -> Records:
        """A copy of the oldest complete records, at most `max_records`; empty if there are none.

        Stops at the first record that is still being written. Raises RingError if the ring is inconsistent.
        """
        start = self._consumer[0]
        end = self._producer[0]
        if start == end:
            return self._empty
        self._barrier()
        pending = self._pending(start, end)
        records, used = self._run(start, min(pending // RING_STRIDE, max_records))
        if used < min(pending, max_records * RING_STRIDE):
            records, used = self._past_foreign(start, pending, records, used, max_records)
        self._barrier()
        self._consumer[0] = (start + used) & POSITION_MASK
        return records

    def _pending(self, start: int, end: int) -> int:
        pending = (end - start) & POSITION_MASK
        if pending > self.ring_bytes or pending % 8:
            raise RingError(
                f"ring of {self.ring_bytes} bytes: consumer at {start}, producer at {end}: impossible: "
                "another process reads this ring, or it has another size"
            )
        return pending

    def _run(self, start: int, count: int) -> tuple[Records, int]:
        """Records of our stride from `start` up to the first busy or foreign one, and the bytes used.

        Few calls: caches are cold after a pause, and then each call of numpy costs 10 us, a record 0.05 us.
        """
        at = start & (self.ring_bytes - 1)
        headers = np.ndarray((count,), np.uint32, self._data, at, (RING_STRIDE,)).tobytes()
        self._barrier()
        if headers == _PLAIN * count:
            found = self._memory.rows(count)
            found[:] = self._records(at, count)
            return found.view(RECORD), count * RING_STRIDE
        return self._mixed_run(at, np.frombuffer(headers, np.uint32))

    def _mixed_run(self, at: int, headers: npt.NDArray[np.uint32]) -> tuple[Records, int]:
        """As _run, where not every header is that of a record of ours."""
        stops = (headers & np.uint32(BUSY | LENGTH_MASK)) != RECORD_BYTES
        count = int(stops.argmax()) if stops.any() else len(headers)
        kept = headers[:count] == RECORD_BYTES
        self.discarded_records += count - int(np.count_nonzero(kept))
        return self._records(at, count)[kept].view(RECORD), count * RING_STRIDE

    def _records(self, at: int, count: int) -> Records:
        return np.ndarray((count,), _OPAQUE, self._data, at + HEADER_BYTES, (RING_STRIDE,))

    def _past_foreign(
        self, start: int, pending: int, records: Records, used: int, max_records: int
    ) -> tuple[Records, int]:
        """Goes on behind foreign records, where our stride holds again. Ends at the first busy record."""
        pieces = [records]
        left = max_records - used // RING_STRIDE
        while used < pending and left > 0:
            header = int(self._data[((start + used) & (self.ring_bytes - 1)) // 8]) & 0xFFFFFFFF
            if header & BUSY:
                break
            if header & LENGTH_MASK != RECORD_BYTES:
                used += self._foreign_bytes(header & LENGTH_MASK, start + used, pending - used)
                self.foreign_records += 1
            more, more_bytes = self._run(start + used, min((pending - used) // RING_STRIDE, left))
            pieces.append(more)
            used += more_bytes
            left -= more_bytes // RING_STRIDE
        return (np.concatenate(pieces) if len(pieces) > 1 else records), used

    def _foreign_bytes(self, length: int, position: int, pending: int) -> int:
        size = HEADER_BYTES + (length + 7) // 8 * 8
        if size > pending:
            raise RingError(
                f"ring of {self.ring_bytes} bytes: a record of {length} bytes at {position & POSITION_MASK} "
                "ends behind the producer: this is no BPF ring buffer, or another process reads it"
            )
        return size


class RingReader(RingView):
    """Maps the ring buffer `ring_fd` of `ring_bytes` data and reads it. Close it, or use it with `with`.

    Raises OSError if the map cannot be mapped, RuntimeError on a machine without a known memory order.
    """

    def __init__(self, ring_fd: int, ring_bytes: int) -> None:
        barrier = barrier_for()
        page = mmap.PAGESIZE
        try:
            writable = mmap.mmap(ring_fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
            readable = mmap.mmap(ring_fd, page + 2 * ring_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except OSError as error:
            raise OSError(
                error.errno,
                f"map ring (fd {ring_fd}, {ring_bytes} bytes): {error.strerror}: no BPF ring of this size?",
            ) from error
        super().__init__(
            consumer=np.frombuffer(writable, np.uint64, count=1),
            producer=np.frombuffer(readable, np.uint64, count=1),
            data=np.frombuffer(readable, np.uint64, offset=page),
            barrier=barrier,
        )

    def close(self) -> None:
        """Unmaps the ring; the file descriptor stays with the caller. Reading afterwards finds nothing."""
        nothing = np.zeros(1, np.uint64)
        self._consumer = self._producer = nothing.data
        self._data = nothing[:0]  # the mapping goes with the last array over it

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
