# SPDX-License-Identifier: Apache-2.0
"""Opening the store that a command asks."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overhop.errors import UsageError
from store.query import Store

_log = logging.getLogger(__name__)


@contextmanager
def opened(path: Path | None) -> Iterator[Store]:
    """The store at `path`; at the end what of it could not be read is said.

    Raises StoreError, or UsageError where the configuration names none.
    """
    if path is None:
        raise UsageError("store: the configuration says none: give --store DIR")
    from store.embedded import EmbeddedStore

    store = EmbeddedStore(path)
    try:
        yield store
        for problem in store.problems:
            _log.warning("part of the store could not be read", extra={"reason": problem})
    finally:
        store.close()
