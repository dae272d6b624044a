# SPDX-License-Identifier: Apache-2.0
"""Opening the store that a command asks."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from overhop.config import StoreAt, StoreSection
from overhop.errors import UsageError
from store.influxdb.target import Target, read_secret
from store.query import Store, StoreError

if TYPE_CHECKING:
    from store.embedded import EmbeddedStore
    from store.influxdb.http import Connection
    from store.influxdb.reading import InfluxStore

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is, and how one gets in."""

    at: StoreAt
    token_file: Path | None = None
    ca_file: Path | None = None
    spool: Path | None = None
    """Where rows wait that go to a server."""

    def __str__(self) -> str:
        return str(self.at)


def place_of(section: StoreSection) -> Place:
    """The place that the configuration names."""
    return Place(section.url, section.token_file, section.ca_file, section.spool)


def connected(place: Place) -> "Connection":
    """A connection to the server that the place names. Raises UsageError: the token cannot be read."""
    from store.influxdb.http import Connection

    assert isinstance(place.at, Target)
    try:
        secret = None if place.token_file is None else read_secret(place.token_file)
    except StoreError as error:
        raise UsageError(str(error)) from None
    return Connection(place.at, secret, place.ca_file)


@contextmanager
def opened(place: Place) -> Iterator[Store]:
    """The store there; at the end what of it could not be read is said.

    Raises StoreError, or UsageError where the configuration names none.
    """
    if place.at is None:
        raise UsageError("store: the configuration says none: give --store DIR or a server's URL")
    store = _store(place)
    try:
        yield store
        for problem in store.problems:
            _log.warning("part of the store could not be read", extra={"reason": problem})
    finally:
        store.close()


def _store(place: Place) -> "EmbeddedStore | InfluxStore":
    if isinstance(place.at, Target):
        from store.influxdb.reading import InfluxStore

        return InfluxStore(connected(place))
    from store.embedded import EmbeddedStore

    assert place.at is not None
    return EmbeddedStore(place.at)
