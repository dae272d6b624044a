# SPDX-License-Identifier: Apache-2.0
import pytest

from insight.identifiers import is_kept, parse_trace_id, trace_id_text
from store.query import TraceId

WHOLE = TraceId(0x0AF7651916CD43DD, 0x8448EB211C80319C)


@pytest.mark.parametrize(
    "text",
    [
        "0af7651916cd43dd8448eb211c80319c",
        "0AF7651916CD43DD8448EB211C80319C",
        " 0af7651916cd43dd8448eb211c80319c\n",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "X-B3-TraceId:0af7651916cd43dd8448eb211c80319c",
        "b3: 0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes",
        "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-d-b7ad6b7169203331",
    ],
)
def test_parse_trace_id_in_any_form_is_the_same(text: str) -> None:
    assert parse_trace_id(text) == WHOLE


def test_parse_trace_id_of_64_bits_is_padded() -> None:
    assert parse_trace_id("8448EB211C80319C") == TraceId(0, 0x8448EB211C80319C)


@pytest.mark.parametrize(
    "text",
    ["", "xyz", "0af7651916cd43dd8448eb211c80319", "0af7651916cd43dd8448eb211c80319c0", "\x1b[31m", "é" * 32],
)
def test_parse_trace_id_of_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no trace id: give 32 hex digits or a traceparent"):
        parse_trace_id(text)


def test_parse_trace_id_that_is_long_is_not_repeated_whole() -> None:
    with pytest.raises(ValueError, match=r"^'a{80}\.\.\.' is no trace id"):
        parse_trace_id("a" * 5000)


def test_parse_trace_id_of_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match="zeros"):
        parse_trace_id("0" * 32)


def test_trace_id_text_keeps_leading_zeros() -> None:
    assert trace_id_text(TraceId(0, 0xAB)) == "000000000000000000000000000000ab"


@pytest.mark.parametrize(
    ("trace", "shift", "expected"),
    # Hashes, worked out apart: of 1 0xC2B2AE3D27D4EB4F; of 4 0x0ACAB8F49F53AD3C: four zero bits on top.
    [
        (TraceId(0, 1), 0, True),
        (TraceId(0, 1), 1, False),
        (TraceId(0, 4), 4, True),
        (TraceId(0, 4), 5, False),
    ],
)
def test_is_kept_looks_at_the_upper_bits_of_the_hash(trace: TraceId, shift: int, expected: bool) -> None:
    assert is_kept(trace, shift) is expected
