# SPDX-License-Identifier: Apache-2.0
"""A spool and an embedded store look alike, and must not be taken for each other: one's rows go elsewhere."""

from pathlib import Path

from store.locks import FORWARDERS, WRITER_LOCK
from store.query import StoreError


def require_spool(directory: Path) -> None:
    """Raises StoreError if an embedded store is there: sending would remove its rows."""
    if (directory / WRITER_LOCK).exists():
        raise StoreError(
            f"spool {directory}: it is an embedded store: give another directory "
            "(overhop store import brings its rows to a server)"
        )


def require_store(directory: Path) -> None:
    """Raises StoreError if a spool is there: its rows are on their way to a server."""
    if (directory / FORWARDERS).exists():
        raise StoreError(
            f"store {directory}: it is a spool, whose rows go to a server: give another directory"
        )
