# SPDX-License-Identifier: Apache-2.0
"""Names and places in an embedded store, its version, and which files a reader reads (docs/store.md)."""

import contextlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from store.query import StoreError
from store.schema import SCHEMA_VERSION

FORMAT_VERSION: Final = 1
"""Of directories, segments and Parquet files."""
DIRECTORY_MODE: Final = 0o700
FILE_MODE: Final = 0o600
TEMPORARY: Final = ".tmp-"
APPENDERS: Final = "appenders"
"""Directory of the appenders' own files, one per node (store/appender.py)."""


_VERSION_FILE: Final = "version"
_VERSION_BYTES: Final = 4096
_NAME_BYTES: Final = 200  # file systems take 255; a suffix and `.tmp-PID-` want room
_CUT_BYTES: Final = 120
_EMPTY_NODE: Final = "%"
_CUT_MARK: Final = "%~"
_ENTRY: Final = re.compile(r"(\d{8,18})(?:\.(seg)|-(\d{8,18})\.parquet)")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of rows: a segment (`first == last`), or a Parquet file that replaces those first to last."""

    first: int
    last: int
    is_parquet: bool

    @property
    def name(self) -> str:
        """The file's name."""
        if self.is_parquet:
            return f"{self.first:08}-{self.last:08}.parquet"
        return f"{self.first:08}.seg"

    def covers(self, other: "Entry") -> bool:
        """Whether the rows of `other` are in this file too."""
        if not (self.is_parquet and self.first <= other.first and other.last <= self.last):
            return False
        return self != other


def segment_name(number: int) -> str:
    """The name of segment `number`."""
    return Entry(number, number, is_parquet=False).name


def parquet_name(first: int, last: int) -> str:
    """The name of the Parquet file that replaces segments `first` to `last`."""
    return Entry(first, last, is_parquet=True).name


def temporary_name(name: str) -> str:
    """What this process calls the file `name` until it is whole."""
    return f"{TEMPORARY}{os.getpid()}-{name}"


def parse_name(name: str) -> Entry | None:
    """The file of that name; None: no file of rows (temporary, foreign, or not written as we write it)."""
    match = _ENTRY.fullmatch(name)
    if not match:
        return None
    first, segment, last = match.groups()
    entry = Entry(int(first), int(first if segment else last), is_parquet=segment is None)
    return entry if entry.name == name and 0 < entry.first <= entry.last else None


def visible(names: Iterable[str]) -> list[Entry]:
    """The files to read of one directory's listing, in order of their rows; covered ones are left out."""
    found = sorted(
        (entry for entry in map(parse_name, names) if entry),
        key=lambda each: (each.first, -each.last, not each.is_parquet),
    )
    kept: list[Entry] = []
    for (
        entry
    ) in found:  # the last one kept reaches furthest: what began before it and reaches further covers it
        if not kept or not kept[-1].covers(entry):
            kept.append(entry)
    return kept


def listing(directory: Path) -> list[Entry]:
    """`visible` of a directory as it is now; empty if there is none. Raises OSError."""
    try:
        return visible(os.listdir(directory))
    except FileNotFoundError:
        return []


def table_directory(store: Path, table: str) -> Path:
    """Where the nodes' directories of one table are."""
    return store / table


def node_directory(store: Path, table: str, node: str) -> Path:
    """Where the rows of one node and table are."""
    return store / table / encode_node(node)


def encode_node(node: str) -> str:
    """A node's name as the name of a file: percent-encoded UTF-8, a leading dot too; empty: `%`.

    One longer than 200 bytes is cut, `%~` and a hash of the whole follow: it cannot be decoded.
    """
    raw = node.encode("utf-8", "surrogatepass")
    encoded = quote_from_bytes(raw, safe="")
    if encoded.startswith("."):
        encoded = "%2E" + encoded[1:]
    if len(encoded) > _NAME_BYTES:
        import hashlib  # 3.5 MB, which the agent need not carry

        return encoded[:_CUT_BYTES] + _CUT_MARK + hashlib.sha256(raw).hexdigest()
    return encoded or _EMPTY_NODE


def decode_node(name: str) -> str | None:
    """The node whose directory is called `name`; None: cut short (its files tell), or no name of ours."""
    if name == _EMPTY_NODE:
        return ""
    try:
        node = unquote_to_bytes(name).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None
    return node if encode_node(node) == name else None


def create_store(store: Path) -> None:
    """Make the directory a store, if it is none yet; its parents must be there.

    Raises StoreError if it is a newer one or holds something else, OSError if it cannot be written.
    """
    with contextlib.suppress(FileExistsError):
        store.mkdir(DIRECTORY_MODE)
    version = store / _VERSION_FILE
    if not version.exists():
        _refuse_foreign(store)
        _write_version(version)
    check_store(store)


def check_store(store: Path) -> None:
    """Raises StoreError if `store` is none or of a newer format or schema, OSError if it cannot be read."""
    path = store / _VERSION_FILE
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_VERSION_BYTES))
        versions = int(found["format"]), int(found["schema"])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(
            f"store {store}: no store is here ({path} is missing): give the directory of one"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"store {store}: {path} is damaged: restore it or give another directory") from error
    ours = FORMAT_VERSION, SCHEMA_VERSION
    if versions[0] > ours[0] or versions[1] > ours[1]:
        raise StoreError(
            f"store {store}: it has format {versions[0]}, schema {versions[1]}; this overhop knows up to "
            f"format {ours[0]}, schema {ours[1]}: use the overhop that wrote it, or give another directory"
        )


def _refuse_foreign(store: Path) -> None:
    foreign = [each for each in os.listdir(store) if not each.startswith(TEMPORARY) and each != "lost+found"]
    if foreign and not (store / _VERSION_FILE).exists():  # another process may have made it a store meanwhile
        raise StoreError(
            f"store {store}: the directory is not empty and no store ({sorted(foreign)[0]!r} is in it, "
            f"{_VERSION_FILE!r} is not): give an empty or a new directory"
        )


def _write_version(path: Path) -> None:
    """Whole or not at all, and never over one that another process made."""
    # Pids are not enough: agents in containers of their own may all be pid 1, and nobody holds a lock yet.
    temporary = path.with_name(f"{TEMPORARY}{os.urandom(8).hex()}-{path.name}")
    text = json.dumps({"format": FORMAT_VERSION, "schema": SCHEMA_VERSION}) + "\n"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make names that were given and taken in `directory` survive a power cut. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
