# SPDX-License-Identifier: Apache-2.0
"""Opening the store that a command asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overhop.errors import UsageError
from store.query import Store


@contextmanager
def opened(path: Path | None) -> Iterator[Store]:
    """The store at `path`. Raises StoreError, or UsageError where the configuration names none."""
    if path is None:
        raise UsageError("store: the configuration says none: give --store DIR")
    from store.embedded import EmbeddedStore

    store = EmbeddedStore(path)
    try:
        yield store
    finally:
        store.close()
