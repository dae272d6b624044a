# SPDX-License-Identifier: Apache-2.0
"""Columns as bytes and back: what a frame of a segment holds (docs/store.md, "A segment, byte by byte").

Columns of one width lie together, each as planes of its bytes (all lowest bytes, then all second ones, ...):
counts are small and neighbours alike, so planes are long runs. Text is a dictionary, its codes are a column.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from store.batch import APPENDED, Batch, Labels, Numbers
from store.schema import TEXT, Column

MAX_ROWS: Final = 8192
"""Rows in one frame."""
MAX_RAW_BYTES: Final = 16 << 20
"""Bytes of one frame before compression."""

_WIDTHS: Final = (8, 4, 2, 1)
_TEXT: Final = struct.Struct("<II")  # values, bytes of all of them
_Planes = dict[int, list[npt.NDArray[np.generic]]]


class Damaged(Exception):  # noqa: N818 (says what is the case)
    """Bytes are not what an appender writes; the message says what is wrong."""


def encode_columns(batch: Batch) -> bytes | None:
    """All columns of the batch; None: more than a frame holds. Raises ValueError if a code has no text."""
    by_width: _Planes = {width: [] for width in _WIDTHS}
    texts: list[bytes] = []
    for column in batch.table.columns[len(APPENDED) :]:
        values = batch.columns[column.name]
        if isinstance(values, Labels):
            text, codes = _encode_text(values)
            texts.append(text)
            if codes is not None:
                by_width[codes.itemsize].append(codes)
        else:
            by_width[values.itemsize].append(values)
    numbers = len(batch) * sum(width * len(columns) for width, columns in by_width.items())
    if sum(map(len, texts)) + numbers > MAX_RAW_BYTES:
        return None
    return b"".join([*texts, *(_planes(columns) for columns in by_width.values() if columns)])


def decode_columns(raw: bytes, rows: int, columns: Sequence[Column]) -> dict[str, Numbers | Labels]:
    """What `encode_columns` made of a batch of `rows` rows. Raises Damaged."""
    texts, at = _decode_texts(raw, columns)
    dtypes = [_stored_dtype(column, texts) for column in columns]
    stored = _unpack(raw, at, rows, [dtype for dtype in dtypes if dtype])
    decoded: dict[str, Numbers | Labels] = {}
    for column, dtype in zip(columns, dtypes, strict=True):
        values = stored[dtype.itemsize].pop(0).view(dtype) if dtype else np.zeros(rows, np.uint8)
        if column.dtype == TEXT:
            decoded[column.name] = _labels(column.name, texts[column.name], values)
        else:
            decoded[column.name] = values
    return decoded


def readable(text: str) -> str:
    """Text that UTF-8 can hold: lone surrogates become visible escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _encode_text(labels: Labels) -> tuple[bytes, npt.NDArray[np.generic] | None]:
    values: Sequence[str] = labels.values
    codes: npt.NDArray[np.generic] = labels.codes
    if len(codes) and int(labels.codes.max()) >= len(values):
        raise ValueError(f"labels have a code beyond their {len(values)} texts")
    if len(values) > len(codes):  # a dictionary may be shared with many other batches
        used, codes = np.unique(codes, return_inverse=True)
        values = [values[code] for code in used]
    encoded = [value.encode("utf-8", "backslashreplace") for value in values]
    blob = b"".join(encoded)
    lengths = np.array([len(value) for value in encoded], "<u4")
    text = b"".join((_TEXT.pack(len(encoded), len(blob)), lengths.tobytes(), blob))
    dtype = _code_dtype(len(values))
    return text, codes.astype(dtype) if dtype else None


def _code_dtype(values: int) -> np.dtype[np.generic] | None:
    """Type of the codes of a dictionary; None: there is one value, so there is nothing to tell."""
    if values <= 1:
        return None
    return np.dtype("u1") if values <= 1 << 8 else np.dtype("<u2") if values <= 1 << 16 else np.dtype("<u4")


def _planes(columns: list[npt.NDArray[np.generic]]) -> bytes:
    width, rows = columns[0].itemsize, len(columns[0])
    together = np.empty((len(columns), rows), f"<u{width}")
    for row, column in zip(together, columns, strict=True):
        row[:] = column.view(f"<u{width}")
    if width == 1:
        return together.tobytes()
    return together.view(np.uint8).reshape(len(columns), rows, width).transpose(0, 2, 1).tobytes()


def _decode_texts(raw: bytes, columns: Iterable[Column]) -> tuple[dict[str, list[str]], int]:
    """The dictionaries by column, and where they end."""
    texts: dict[str, list[str]] = {}
    at = 0
    for column in columns:
        if column.dtype == TEXT:
            texts[column.name], at = _decode_text(raw, at, column.name)
    return texts, at


def _decode_text(raw: bytes, at: int, name: str) -> tuple[list[str], int]:
    blob_at = at + _TEXT.size
    if blob_at > len(raw):
        raise Damaged(f"column {name} is cut off")
    count, blob_bytes = _TEXT.unpack_from(raw, at)
    lengths_at, blob_at = blob_at, blob_at + 4 * count
    end = blob_at + blob_bytes
    if end > len(raw):
        raise Damaged(f"the texts of column {name} are cut off")
    ends = np.cumsum(np.frombuffer(raw, "<u4", count, lengths_at), dtype=np.int64)
    if (int(ends[-1]) if count else 0) != blob_bytes:
        raise Damaged(f"the texts of column {name} have other lengths")
    blob = raw[blob_at:end]
    borders = [0, *ends.tolist()]
    try:
        return [str(blob[borders[i] : borders[i + 1]], "utf-8") for i in range(count)], end
    except UnicodeDecodeError as error:
        raise Damaged(f"a text of column {name} is not UTF-8") from error


def _stored_dtype(column: Column, texts: Mapping[str, list[str]]) -> np.dtype[np.generic] | None:
    if column.dtype == TEXT:
        return _code_dtype(len(texts[column.name]))
    return np.dtype(column.dtype).newbyteorder("<")


def _unpack(
    raw: bytes, at: int, rows: int, dtypes: Sequence[np.dtype[np.generic]]
) -> dict[int, list[npt.NDArray[np.generic]]]:
    """The columns of each width in order, as unsigned numbers."""
    if len(raw) - at != rows * sum(dtype.itemsize for dtype in dtypes):
        raise Damaged(f"the numbers are {len(raw) - at} bytes, which {rows} rows have not")
    unpacked: dict[int, list[npt.NDArray[np.generic]]] = {}
    for width in _WIDTHS:
        count = sum(dtype.itemsize == width for dtype in dtypes)
        planes = np.frombuffer(raw, np.uint8, count * width * rows, at).reshape(count, width, rows)
        whole = np.ascontiguousarray(planes.transpose(0, 2, 1)).reshape(count, rows * width)
        unpacked[width] = [*whole.view(f"<u{width}")]
        at += count * width * rows
    return unpacked


def _labels(name: str, values: list[str], codes: npt.NDArray[np.generic]) -> Labels:
    numbers = codes.astype(np.uint32)
    if len(numbers) and int(numbers.max()) >= len(values):
        raise Damaged(f"column {name} has a code beyond its texts")
    return Labels(values, numbers)
