# SPDX-License-Identifier: Apache-2.0
"""The segment that an appender has open: whole frames or nothing (docs/store.md)."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from store.layout import DIRECTORY_MODE, FILE_MODE, segment_name, temporary_name
from store.segment import EncodedFrame, Header, encode_header

HOUR_NS: Final = 3_600_000_000_000


class OpenSegment:
    """A new segment; it gets its name when its flock is held and its header is written.

    Raises OSError if it cannot be made; nothing is left then.
    """

    def __init__(self, directory: Path, number: int, header: Header, opened_s: float) -> None:
        self.path = directory / segment_name(number)
        self.opened_s = opened_s
        self.hour = header.first_ns // HOUR_NS
        self.rows = 0
        self.is_torn = False
        """Whether bytes of a failed write could not be taken back: nothing can be appended behind them."""
        directory.parent.mkdir(DIRECTORY_MODE, exist_ok=True)
        directory.mkdir(DIRECTORY_MODE, exist_ok=True)
        temporary = directory / temporary_name(self.path.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        self.descriptor = os.open(temporary, flags, FILE_MODE)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.size_bytes = 0
            self._write(encode_header(header))
            temporary.rename(self.path)
        except BaseException:
            with contextlib.suppress(
                OSError
            ):  # the first failure is what counts; the next appender removes it
                temporary.unlink(missing_ok=True)
            os.close(self.descriptor)
            raise

    def append(self, frame: EncodedFrame) -> None:
        """One frame by one write(2). Raises OSError; then no byte of it is read as rows."""
        self._write(frame.data)
        self.rows += frame.rows

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self.descriptor, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            error.filename = str(self.path)
            self._take_back()
            raise
        if not os.fstat(self.descriptor).st_nlink:
            self.is_torn = True
            raise FileNotFoundError(errno.ENOENT, "the segment was removed", str(self.path))
        self.size_bytes += len(data)

    def _take_back(self) -> None:
        try:
            os.ftruncate(self.descriptor, self.size_bytes)
        except OSError:
            self.is_torn = True
