# SPDX-License-Identifier: Apache-2.0
"""Names of locks: who works on a directory. Imports nothing: a writer that is too many must cost nothing."""

from typing import Final

WRITER_LOCK: Final = "writer.lock"
"""File of the writer of an embedded store (store/writer.py)."""
FORWARDERS: Final = "forwarders"
"""Directory of what was sent of a spool, one file per node (store/spool/position.py)."""
