# SPDX-License-Identifier: Apache-2.0
"""A recording: every raw record in a bounded file, written beside the agent's loop.

File: `OVERHOPR`, u32 version, u32 length of a JSON header (little-endian), the header padded with spaces to a
multiple of 128 bytes, then records of bpf.record.RECORD to the end.
"""

import json
import os
import struct
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.clock import ClockOffset
from bpf.record import RECORD, RECORD_BYTES

MAGIC = b"OVERHOPR"
VERSION = 1
DEFAULT_MAX_BYTES = 256 << 20
QUEUE_BYTES = 16 << 20
"""What may wait for the disk: 1.2 s of 100 k hops/s."""
FULL_BATCH = 65_536
"""A read that returns fewer records has emptied the ring (agent.ring.RingView.read)."""
_PREFIX = struct.Struct("<8sII")

Records = npt.NDArray[np.void]
"""An array of bpf.record.RECORD."""


class RecordError(OSError):
    """A recording cannot be made or read; the text says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class RecordingHeader:
    """What is needed to read the records elsewhere.

    `boot_id`: nodes with the same one share CLOCK_MONOTONIC. `clock` is the offset when the recording began.
    """

    spec_digest: str
    source_digest: str
    node: str
    boot_id: str
    clock: ClockOffset


@dataclass(frozen=True, slots=True)
class RecordStatus:
    """State of the current or the last recording; `write_error` is the disk's last refusal."""

    recording: bool
    file: str = ""
    records: int = 0
    file_bytes: int = 0
    max_bytes: int = 0
    lost_bound: int = 0
    """Records beyond the file's bound."""
    lost_queue: int = 0
    """Records for which the disk was too slow."""
    lost_disk: int = 0
    """Records that the disk refused."""
    write_error: str = ""


def header_bytes(header: RecordingHeader) -> bytes:
    """The beginning of a recording, a multiple of 128 bytes."""
    text = json.dumps(asdict(header), sort_keys=True).encode()
    padded = -(-(_PREFIX.size + len(text)) // RECORD_BYTES) * RECORD_BYTES
    text = text.ljust(padded - _PREFIX.size)
    return _PREFIX.pack(MAGIC, VERSION, len(text)) + text


class Recorder:
    """Owns at most one recording. The agent's loop calls `write` with every read of the ring, empty ones too.

    `header` is asked when a recording starts. A thread writes; the loop never waits for the disk.
    """

    def __init__(self, header: Callable[[], RecordingHeader], queue_bytes: int = QUEUE_BYTES) -> None:
        self._header = header
        self._queue_bytes = queue_bytes
        self._session: _Session | None = None
        self._stopping = False

    def start(self, path: str, max_bytes: int = DEFAULT_MAX_BYTES) -> RecordStatus:
        """Creates the file and records into it from now on. Raises RecordError."""
        running = self._running()
        if running is not None:
            raise RecordError(f"start {path}: already recording to {running.path}: stop that first")
        beginning = header_bytes(self._header())
        if max_bytes < len(beginning) + RECORD_BYTES:
            least = len(beginning) + RECORD_BYTES
            raise RecordError(f"start {path}: {max_bytes} bytes hold no record: allow at least {least}")
        self._session = _Session(path, _create(path, beginning), len(beginning), max_bytes, self._queue_bytes)
        self._stopping = False
        return self.status()

    def write(self, batch: Records) -> None:
        """Takes the records of one read of the ring; the array must not be changed afterwards."""
        running = self._running()
        if running is None:
            return
        if len(batch):
            running.take(batch)
        if self._stopping and len(batch) < FULL_BATCH:
            running.end()

    def stop(self) -> None:
        """Ends the recording with the next read that empties the ring. Raises RecordError."""
        if self._running() is None:
            raise RecordError("stop: nothing is being recorded: start first")
        self._stopping = True

    def close(self, timeout_s: float = 5.0) -> bool:
        """Ends at once, without another read; false if the disk did not take all within `timeout_s`."""
        if self._session is None:
            return True
        self._session.end()
        return self._session.join(timeout_s)

    def status(self) -> RecordStatus:
        """How the current or the last recording stands."""
        return self._session.status() if self._session is not None else RecordStatus(recording=False)

    def _running(self) -> "_Session | None":
        return self._session if self._session is not None and not self._session.finished else None


class _Session:
    """One file and the thread that writes it.

    Each number has one writer (loop or thread), so that no lock is needed.
    """

    def __init__(self, path: str, fd: int, start_bytes: int, max_bytes: int, queue_bytes: int) -> None:
        self.path = path
        self._fd = fd
        self._start_bytes = start_bytes
        self._max_bytes = max_bytes
        self._max_queued = queue_bytes // RECORD_BYTES
        self._queue: SimpleQueue[Records | None] = SimpleQueue()
        self._ended = False
        self._accepted = self._lost_bound = self._lost_queue = 0
        self._done = self._written = self._lost_disk = 0
        self._error = ""
        self._thread = threading.Thread(target=self._run, name="overhop-record", daemon=True)
        self._thread.start()

    @property
    def finished(self) -> bool:
        return not self._thread.is_alive()

    def take(self, batch: Records) -> None:
        if self._ended:
            return
        room = (self._max_bytes - self._start_bytes) // RECORD_BYTES - self._accepted
        kept = batch[: max(room, 0)]
        self._lost_bound += len(batch) - len(kept)
        if self._accepted - self._done + len(kept) > self._max_queued:
            self._lost_queue += len(kept)
            return
        if len(kept):
            self._accepted += len(kept)
            self._queue.put(kept)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._queue.put(None)

    def join(self, timeout_s: float) -> bool:
        self._thread.join(timeout_s)
        return self.finished

    def status(self) -> RecordStatus:
        return RecordStatus(
            recording=not self.finished,
            file=self.path,
            records=self._written,
            file_bytes=self._file_bytes(),
            max_bytes=self._max_bytes,
            lost_bound=self._lost_bound,
            lost_queue=self._lost_queue,
            lost_disk=self._lost_disk,
            write_error=self._error,
        )

    def _run(self) -> None:
        try:
            while (batch := self._queue.get()) is not None:
                written = self._append(batch.view(np.uint8).data)
                self._written += written
                self._lost_disk += len(batch) - written
                self._done += len(batch)
            os.ftruncate(self._fd, self._file_bytes())
        except OSError as error:
            self._error = f"cut {self.path} to whole records: {error.strerror}"
        finally:
            os.close(self._fd)

    def _file_bytes(self) -> int:
        return self._start_bytes + self._written * RECORD_BYTES

    def _append(self, data: memoryview) -> int:
        """Whole records that are in the file afterwards; a torn one is overwritten by the next."""
        at, written = self._file_bytes(), 0
        try:
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], at + written)
        except OSError as error:
            self._error = f"write {self.path}: {error.strerror}"
        return written // RECORD_BYTES


def _create(path: str, beginning: bytes) -> int:
    fd = _open_new(path)
    try:
        if os.pwrite(fd, beginning, 0) == len(beginning):
            return fd
        reason = "no space left on device"
    except OSError as error:
        reason = str(error.strerror)
    os.close(fd)
    os.unlink(path)
    raise RecordError(f"start {path}: {reason}")


def _open_new(path: str) -> int:
    if not os.path.isabs(path):
        raise RecordError(f"start {path}: the agent runs elsewhere: give an absolute path")
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise RecordError(
            f"start {path}: there is such a file, and recordings replace none: remove it"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecordError(f"start {path}: {reason}: the agent must be able to create this file") from None


def read_recording(path: str | os.PathLike[str]) -> tuple[RecordingHeader, Records]:
    """Header and records of a recording. Raises RecordError if it is not one, or is cut off."""
    name = os.fspath(path)
    try:
        size_bytes = Path(name).stat().st_size
        with open(name, "rb") as file:
            header = _read_header(name, file.read(_PREFIX.size), file.read)
            records_at = file.tell()
    except OSError as error:
        raise (
            error if isinstance(error, RecordError) else RecordError(f"read {name}: {error.strerror}")
        ) from None
    rest = (size_bytes - records_at) % RECORD_BYTES
    if rest:
        whole = (size_bytes - records_at) // RECORD_BYTES
        raise RecordError(
            f"read {name}: cut off {rest} bytes into record {whole}: the agent died or is still writing; "
            f"`truncate -s {size_bytes - rest}` keeps the {whole} whole records"
        )
    return header, np.fromfile(name, RECORD, offset=records_at)


def _read_header(name: str, prefix: bytes, read: Callable[[int], bytes]) -> RecordingHeader:
    if len(prefix) < _PREFIX.size or not prefix.startswith(MAGIC):
        raise RecordError(f"read {name}: is no recording of overhop")
    _, version, length = _PREFIX.unpack(prefix)
    if version != VERSION:
        raise RecordError(
            f"read {name}: version {version} is not known here ({VERSION}): use a matching overhop"
        )
    text = read(min(length, 1 << 20))
    if len(text) < length:
        raise RecordError(f"read {name}: cut off in its header")
    try:
        fields: dict[str, Any] = json.loads(text)  # Any: JSON, typed by the dataclasses in the next line
        return RecordingHeader(**fields | {"clock": ClockOffset(**fields["clock"])})
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"read {name}: its header is damaged: {error}") from None
