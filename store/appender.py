# SPDX-License-Identifier: Apache-2.0
"""Appends rows to an embedded store: one appender per node and store (docs/store.md)."""

import contextlib
import errno
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from store.batch import Batch, Labels
from store.layout import create_store, node_directory
from store.node_file import NodeFile, ahead_ns
from store.open_segment import HOUR_NS, OpenSegment
from store.query import StoreError
from store.sealer import Sealer
from store.segment import EncodedFrame, Header, encode_frame

_FIRST_RETRY_S: Final = 0.25
_LAST_RETRY_S: Final = 8.0
_ADVICE: Final = {
    errno.ENOSPC: "make room, or give the store another disk",
    errno.EDQUOT: "raise the quota, or give the store another disk",
    errno.EROFS: "the file system is read-only: look at the kernel's log",
    errno.EIO: "the disk fails: look at the kernel's log",
    errno.EFBIG: "raise the limit of the size of files (ulimit -f)",
    errno.EACCES: "give this user the right to write there",
    errno.ENOENT: "make the directory again",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """When a segment ends, and how much may wait."""

    segment_bytes: int = 16 << 20
    segment_age_s: float = 60.0
    waiting_bytes: int = 8 << 20
    """Encoded rows that could not be written yet; the oldest fall out beyond."""


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class AppenderStatus:
    """How appending goes. Rows are counted by table."""

    appended: Mapping[str, int]
    """In segments: they survive the end of this process."""
    dropped: Mapping[str, int]
    """Lost: they fell out of what may wait, or were too large for a frame."""
    waiting: Mapping[str, int]
    waiting_bytes: int
    error: str | None
    """Why rows wait; None: they do not."""
    error_since_ns: int | None
    """When writing began to fail, ns since 1970."""
    sync_error: str | None
    """Why the last fsync failed; None: it did not."""
    ahead_ns: int
    """How far row times are ahead of the clock, because it was set back; 0: they are the clock's."""


class Appender:
    """Gives rows their time and writes them into segments; for one thread.

    Raises StoreError if the store is of a newer version or cannot be written, or another appender writes for
    this node. Later failures raise nothing: rows wait, and `status()` says why.
    """

    def __init__(
        self,
        directory: Path,
        cluster: str,
        node: str,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
        limits: Limits = DEFAULT_LIMITS,
        refusal: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`refusal` says why nothing may be written now, beyond what the disk says; None: it may."""
        self._directory, self._cluster, self._node = directory, cluster, node
        self._clock, self._monotonic, self._limits = clock, monotonic, limits
        self._refusal = refusal
        self._sealer = Sealer()
        self._open: dict[str, OpenSegment] = {}
        self._waiting: deque[EncodedFrame] = deque()
        self._waiting_bytes = 0
        self._appended: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._error: str | None = None
        self._error_since_ns: int | None = None
        self._retry_s, self._retry_at_s = _FIRST_RETRY_S, 0.0
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            create_store(directory)
            self._node_file = NodeFile(directory, node)
        except OSError as error:
            raise StoreError(self._explain(error)) from error
        self._last_ns = self._node_file.last_ns

    def append(self, batch: Batch) -> None:
        """Give the rows their time and write them; what cannot be written now waits.

        Raises ValueError if a code of the batch has no text.
        """
        if not len(batch):
            return
        for frame in self._encode(batch, self._take_times(len(batch))):
            self._waiting.append(frame)
            self._waiting_bytes += len(frame.data)
        self._write_waiting()

    def poll(self) -> None:
        """Write what waits if it is time to try again, and end segments that are due; about once a second."""
        self._write_waiting()
        now_ns = max(self._clock(), self._last_ns)
        for name in [name for name, each in self._open.items() if self._is_due(each, now_ns // HOUR_NS)]:
            self._seal(name)

    def status(self) -> AppenderStatus:
        """How it stands."""
        waiting: Counter[str] = Counter()
        for frame in self._waiting:
            waiting[frame.table.name] += frame.rows
        return AppenderStatus(
            appended=dict(self._appended),
            dropped=dict(self._dropped),
            waiting=dict(waiting),
            waiting_bytes=self._waiting_bytes,
            error=self._error,
            error_since_ns=self._error_since_ns,
            sync_error=self._sealer.error,
            ahead_ns=ahead_ns(self._last_ns, self._clock()),
        )

    def close(self) -> None:
        """Write what waits, end all segments, let the next appender in. What cannot be written is dropped."""
        if self._node_file.is_closed:
            return
        self._retry_at_s = 0.0
        self._write_waiting()
        while self._waiting:
            self._drop_oldest()
        for name in list(self._open):
            self._seal(name)
        self._sealer.close()
        self._node_file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _take_times(self, rows: int) -> int:
        """The first of `rows` consecutive times, all of one hour and later than any before."""
        first_ns = max(self._clock(), self._last_ns + 1)
        if first_ns // HOUR_NS != (first_ns + rows - 1) // HOUR_NS:
            first_ns = (first_ns // HOUR_NS + 1) * HOUR_NS
        self._last_ns = first_ns + rows - 1
        return first_ns

    def _encode(self, batch: Batch, first_ns: int) -> Iterator[EncodedFrame]:
        frame = encode_frame(batch, first_ns)
        if frame:
            yield frame
        elif len(batch) == 1:
            self._dropped[batch.table.name] += 1
        else:
            half = len(batch) // 2
            yield from self._encode(_rows(batch, 0, half), first_ns)
            yield from self._encode(_rows(batch, half, len(batch)), first_ns + half)

    def _write_waiting(self) -> None:
        if self._waiting and self._monotonic() >= self._retry_at_s:
            try:
                self._write_all()
            except (OSError, StoreError) as error:
                self._fail(error)
            else:
                self._error = self._error_since_ns = None
                self._retry_s, self._retry_at_s = _FIRST_RETRY_S, 0.0
        while self._waiting_bytes > self._limits.waiting_bytes:
            self._drop_oldest()

    def _write_all(self) -> None:
        if reason := self._refusal():
            raise StoreError(reason)
        while self._waiting:
            frame = self._waiting[0]
            segment = self._segment_for(frame)
            self._node_file.note(frame.first_ns + frame.rows - 1, self._node_file.number)
            segment.append(frame)
            self._take_oldest()
            self._appended[frame.table.name] += frame.rows

    def _fail(self, error: OSError | StoreError) -> None:
        for name in [name for name, each in self._open.items() if each.is_torn]:
            self._seal(name)
        self._error = str(error) if isinstance(error, StoreError) else self._explain(error)
        self._error_since_ns = self._error_since_ns or self._clock()
        self._retry_at_s = self._monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)

    def _take_oldest(self) -> EncodedFrame:
        frame = self._waiting.popleft()
        self._waiting_bytes -= len(frame.data)
        return frame

    def _drop_oldest(self) -> None:
        frame = self._take_oldest()
        self._dropped[frame.table.name] += frame.rows

    def _segment_for(self, frame: EncodedFrame) -> OpenSegment:
        """The open segment of the frame's table and hour, or a new one. Raises OSError, StoreError."""
        name = frame.table.name
        segment = self._open.get(name)
        if segment and self._is_due(segment, frame.first_ns // HOUR_NS, len(frame.data)):
            self._seal(name)
            segment = None
        if not segment:
            segment = self._open[name] = self._new_segment(frame)
        return segment

    def _is_due(self, segment: OpenSegment, hour: int, more_bytes: int = 0) -> bool:
        if segment.size_bytes + more_bytes > self._limits.segment_bytes:
            return True
        is_old = self._monotonic() - segment.opened_s >= self._limits.segment_age_s
        return is_old or segment.hour != hour

    def _new_segment(self, frame: EncodedFrame) -> OpenSegment:
        create_store(self._directory)  # it may have been removed, or be a newer one by now
        if self._node_file.is_gone():
            self._claim_again()
        self._node_file.note(frame.first_ns, self._node_file.number + 1)
        name, columns = frame.table.name, frame.table.columns
        header = Header(name, columns, self._cluster, self._node, frame.first_ns)
        directory = node_directory(self._directory, name, self._node)
        return OpenSegment(directory, self._node_file.number, header, self._monotonic())

    def _explain(self, error: OSError) -> str:
        where = f"{error.filename}: " if error.filename else ""
        advice = _ADVICE.get(error.errno or 0, "look at the directory and what it is on")
        return f"store {self._directory}: {where}{error.strerror}: {advice}"

    def _claim_again(self) -> None:
        """Of a store that was removed, and made again. Raises StoreError if another appender was faster."""
        before, self._node_file = self._node_file, NodeFile(self._directory, self._node)
        old = before.descriptor
        self._sealer.seal(old, old, before.path)  # closes it when segments before it are done
        self._node_file.note(before.last_ns, before.number)
        self._last_ns = max(self._last_ns, self._node_file.last_ns)

    def _seal(self, name: str) -> None:
        segment = self._open.pop(name)
        if not segment.rows:
            with contextlib.suppress(OSError):  # a segment without rows harms nobody
                segment.path.unlink()
        self._sealer.seal(self._node_file.descriptor, segment.descriptor, segment.path)


def _rows(batch: Batch, first: int, until: int) -> Batch:
    return Batch(
        batch.table,
        {
            name: Labels(column.values, column.codes[first:until])
            if isinstance(column, Labels)
            else column[first:until]
            for name, column in batch.columns.items()
        },
    )
