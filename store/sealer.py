# SPDX-License-Identifier: Apache-2.0
"""fsync of segments that ended, in a thread: on a slow disk it takes longer than the ring can wait."""

import os
import threading
from pathlib import Path
from queue import SimpleQueue

from store.layout import sync_directory


class Sealer:
    """Makes files survive a power cut, in the order given, and closes them."""

    def __init__(self) -> None:
        self.error: str | None = None
        """Why the last one failed; None: it did not."""
        self._jobs: SimpleQueue[tuple[int, int, Path] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def seal(self, node_file: int, segment: int, path: Path) -> None:
        """Sync both files and the directory of `path`, then close the segment, which is the sealer's now.

        The node's file comes first: its last row time must not be older than a segment that is whole.
        """
        if not self._thread:
            self._thread = threading.Thread(target=self._work, name="sealer", daemon=True)
            self._thread.start()
        self._jobs.put((node_file, segment, path))

    def close(self) -> None:
        """Wait until everything is done."""
        if self._thread:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        while job := self._jobs.get():
            self.error = _seal(*job)


def _seal(node_file: int, segment: int, path: Path) -> str | None:
    try:
        os.fsync(node_file)
        os.fsync(segment)
        sync_directory(path.parent)
    except FileNotFoundError:  # the directory was removed: there is nothing to keep
        return None
    except OSError as error:
        return f"fsync {path}: {error.strerror}: a power cut may lose its rows: look at the kernel's log"
    finally:
        os.close(segment)
    return None
