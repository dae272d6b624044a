# SPDX-License-Identifier: Apache-2.0
"""Answers of InfluxQL as columns of a table: what `store.influxdb.lines` wrote, read back."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from store.combined import Rows
from store.influxdb.http import Block
from store.influxdb.lines import ADDRESSES, IDS, tags_of
from store.influxdb.tags import tag_text
from store.query import StoreError
from store.schema import TEXT, Table

_IPV4_MAPPED: Final = 0xFFFF << 32
_MASK64: Final = (1 << 64) - 1


def fields_of(table: Table, columns: Sequence[str]) -> list[str]:
    """The fields that hold these columns; tags and the time come by themselves."""
    fields: dict[str, None] = {}
    for column in columns:
        if column != "time" and column not in tags_of(table):
            fields[_field(column)] = None
    return [*fields]


def rows_of(table: Table, columns: Sequence[str], block: Block) -> Rows:
    """The columns of a block whose columns hold fields and tags; what a row has not is 0 or empty.

    Raises StoreError: something is not what we write.
    """
    try:
        found: Mapping[str, Sequence[Any]] = dict(
            zip(block.columns, zip(*block.values, strict=True), strict=True) if block.values else ()
        )
        return {name: _column(table, name, found.get(_field(name), ())) for name in columns}
    except (TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"{table.name}: the server has a field that is not ours: {error}") from None


def _field(column: str) -> str:
    """The field that a column is in."""
    for field, members in (*IDS.items(), *ADDRESSES.items()):
        if column in members:
            return field
    return column


def _column(table: Table, name: str, values: Sequence[Any]) -> npt.NDArray[np.generic]:
    dtype = table.dtype_of(name)
    if dtype == TEXT:
        return _tags(values) if name in tags_of(table) else _texts(values)
    for members in IDS.values():
        if name in members:
            return _words(values, 16 * len(members), len(members) - 1 - members.index(name))
    for members in ADDRESSES.values():
        if name in members:
            high, low = _addresses(values)
            return high if name == members[0] else low
    if None in values:
        values = [0 if value is None else value for value in values]
    return np.array(values, dtype)


def _texts(values: Sequence[Any]) -> npt.NDArray[np.object_]:
    """A field: most are different, so each is taken as it is."""
    texts = np.empty(len(values), object)
    texts[:] = [value or "" for value in values] if None in values else values
    if not set(map(type, texts)) <= {str}:
        raise TypeError("a text is none")
    return texts


def _tags(values: Sequence[Any]) -> npt.NDArray[np.object_]:
    """A tag: there are few, and each is read back once."""
    known = {value: tag_text(value) if value else "" for value in set(values)}
    texts = np.empty(len(values), object)
    texts[:] = [*map(known.__getitem__, values)]
    return texts


def _words(values: Sequence[Any], digits: int, place: int) -> npt.NDArray[np.uint64]:
    """One of the 64-bit words of hexadecimal ids, counted from the last one."""
    end = digits - 16 * place
    return np.array([int((value or "0" * digits)[end - 16 : end], 16) for value in values], np.uint64)


def _addresses(values: Sequence[Any]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    known = {value: _address(value) for value in set(values)}
    pairs = [known[value] for value in values]
    high = np.array([pair[0] for pair in pairs], np.uint64)
    return high, np.array([pair[1] for pair in pairs], np.uint64)


def _address(text: str | None) -> tuple[int, int]:
    if not text:
        return 0, 0
    address: IPv4Address | IPv6Address = ip_address(text)
    number = int(address)
    if isinstance(address, IPv4Address):
        return 0, _IPV4_MAPPED | number
    return number >> 64, number & _MASK64
