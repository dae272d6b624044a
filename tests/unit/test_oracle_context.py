# SPDX-License-Identifier: Apache-2.0
"""The model's context search, with expectations from the W3C and B3 texts and docs/datapath.md §4."""

import pytest

from bpf.record import ContextKind, Quality
from bpf.spec import ProgramSpec
from tests.oracle.context import Context, names_of, search

ALL = names_of(ProgramSpec())
LINE = b"GET / HTTP/1.1\r\n"
TRACE_HEX = b"4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_HEX = b"00f067aa0ba902b7"
TRACE = bytes.fromhex("4bf92f3577b34da6a3ce929d0e0e4736")
SPAN = bytes.fromhex("00f067aa0ba902b7")
W3C = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NONE = ContextKind.NONE
EXCEEDED = int(Quality.WINDOW_EXCEEDED)
BAD = int(Quality.BAD_CONTEXT)


def found(headers: bytes, window: int = 4096) -> Context:
    return search(LINE + headers, window, ALL)


def test_search_w3c_example_gives_ids_flags_and_offset() -> None:
    assert found(b"Host: a\r\ntraceparent: " + W3C + b"\r\n\r\n") == (ContextKind.W3C, TRACE, SPAN, 1, 25, 0)


@pytest.mark.parametrize("name", [b"traceparent", b"Traceparent", b"TRACEPARENT", b"tRACEpARENT"])
def test_search_name_in_any_case_is_found(name: bytes) -> None:
    assert found(name + b":" + W3C + b"\r\n\r\n").kind == ContextKind.W3C


@pytest.mark.parametrize(
    "value",
    [
        b" \t " + W3C + b" \t",
        b"01-" + TRACE_HEX + b"-" + SPAN_HEX + b"-01",
        b"cc-" + TRACE_HEX + b"-" + SPAN_HEX + b"-01-what-the-future-will-be-like",
        b"01-" + TRACE_HEX + b"-" + SPAN_HEX + b"-01-",
        b"fe-" + TRACE_HEX + b"-" + SPAN_HEX + b"-01",
    ],
)
def test_search_w3c_legal_values_are_valid(value: bytes) -> None:
    assert found(b"traceparent:" + value + b"\r\n\r\n") == (ContextKind.W3C, TRACE, SPAN, 1, 16, 0)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"ff-" + TRACE_HEX + b"-" + SPAN_HEX + b"-01",
        b"00-" + b"0" * 32 + b"-" + SPAN_HEX + b"-01",
        b"00-" + TRACE_HEX + b"-" + b"0" * 16 + b"-01",
        b"00-" + TRACE_HEX.upper() + b"-" + SPAN_HEX + b"-01",
        W3C + b"-",
        W3C + b" x",
        W3C[:-1],
        b"0" + W3C,
        b"cc" + W3C[2:] + b".what",
        b"cc" + W3C[2:] + b"0",
        W3C.replace(b"-", b"_"),
        W3C[:20] + b":" + W3C[21:],
        W3C[:20] + b"?" + W3C[21:],
        W3C[:20] + b"`" + W3C[21:],
        W3C[:20] + b"@" + W3C[21:],
        W3C[:20] + b"G" + W3C[21:],
        W3C[:20] + b"g" + W3C[21:],
        W3C[:53] + b"0A",
        W3C + b"\r",
    ],
)
def test_search_w3c_illegal_values_are_bad(value: bytes) -> None:
    assert found(b"traceparent:" + value + b"\r\n\r\n") == (NONE, bytes(16), bytes(8), 0, 0, BAD)


def test_search_flags_byte_is_taken_whole() -> None:
    assert found(b"traceparent: " + W3C[:53] + b"ff\r\n\r\n").trace_flags == 0xFF


@pytest.mark.parametrize(
    ("value", "flags"),
    [(b"", 0), (b"-0", 0), (b"-1", 1), (b"-d", 1), (b"-1-05e3ac9a4f6e3b90", 1), (b"-0-0000000000000000", 0)],
)
def test_search_b3_single_forms_are_valid(value: bytes, flags: int) -> None:
    headers = b"b3: " + TRACE_HEX.upper() + b"-" + SPAN_HEX + value + b"\r\n\r\n"
    assert found(headers) == (ContextKind.B3_SINGLE, TRACE, SPAN, flags, 16, 0)


def test_search_b3_short_trace_id_is_padded_on_the_left() -> None:
    outcome = found(b"b3: a3ce929d0e0e4736-00f067aa0ba902b7\r\n\r\n")
    assert outcome.trace_id == bytes.fromhex("0000000000000000a3ce929d0e0e4736")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"2",
        b"D",
        b"00",
        b"-",
        TRACE_HEX,
        TRACE_HEX[:31] + b"-" + SPAN_HEX,
        TRACE_HEX + b"-" + SPAN_HEX + b"-",
        TRACE_HEX + b"-" + SPAN_HEX + b"-D",
        TRACE_HEX + b"-" + SPAN_HEX + b"-1-",
        TRACE_HEX + b"-" + SPAN_HEX + b"-1-05e3ac9a4f6e3b9",
        TRACE_HEX + b"-" + SPAN_HEX + b"-1-05e3ac9a4f6e3b90-",
        TRACE_HEX + b"-" + SPAN_HEX + b"-05e3ac9a4f6e3b90",
        b"0" * 32 + b"-" + SPAN_HEX,
        TRACE_HEX + b"-" + b"0" * 16,
    ],
)
def test_search_b3_single_illegal_values_are_bad(value: bytes) -> None:
    assert found(b"b3: " + value + b"\r\n\r\n").quality == BAD


@pytest.mark.parametrize("value", [b"0", b"1", b"d", b" \t1\t "])
def test_search_b3_sampling_decision_is_not_bad(value: bytes) -> None:
    assert found(b"b3:" + value + b"\r\n\r\n") == (NONE, bytes(16), bytes(8), 0, 0, 0)


def test_search_b3_multi_takes_the_smaller_offset() -> None:
    headers = b"X-B3-SpanId: " + SPAN_HEX + b"\r\nX-B3-Sampled: 1\r\nX-B3-TraceId: " + TRACE_HEX + b"\r\n\r\n"
    assert found(headers) == (ContextKind.B3_MULTI, TRACE, SPAN, 1, 16, 0)


@pytest.mark.parametrize(
    ("extra", "flags"),
    [
        (b"", 0),
        (b"x-b3-sampled: 0\r\n", 0),
        (b"x-b3-sampled: true\r\n", 0),
        (b"x-b3-sampled: 1\r\n", 1),
        (b"x-b3-flags: 1\r\n", 1),
        (b"x-b3-flags:\t1 \r\nx-b3-sampled: 0\r\n", 1),
        (b"x-b3-sampled: 0\r\nx-b3-sampled: 1\r\n", 0),
    ],
)
def test_search_b3_multi_flags_follow_sampled_and_flags(extra: bytes, flags: int) -> None:
    headers = b"x-b3-traceid: " + TRACE_HEX + b"\r\nx-b3-spanid: " + SPAN_HEX + b"\r\n" + extra + b"\r\n"
    assert found(headers)[3:] == (flags, 16, 0)


@pytest.mark.parametrize("name", [b"x-b3-traceid", b"x-b3-spanid"])
def test_search_half_of_b3_multi_is_bad(name: bytes) -> None:
    assert found(name + b": " + SPAN_HEX + b"\r\n\r\n").quality == BAD


def test_search_w3c_wins_over_b3_in_front_of_it() -> None:
    assert found(b"b3: " + TRACE_HEX + b"-" + SPAN_HEX + b"\r\ntraceparent: " + W3C + b"\r\n\r\n").kind == 1


def test_search_bad_w3c_falls_back_to_b3() -> None:
    outcome = found(b"traceparent: x\r\nb3: " + TRACE_HEX + b"-" + SPAN_HEX + b"\r\n\r\n")
    assert (outcome.kind, outcome.offset, outcome.quality) == (ContextKind.B3_SINGLE, 32, 0)


def test_search_first_of_two_counts_even_if_bad() -> None:
    assert found(b"traceparent: x\r\ntraceparent: " + W3C + b"\r\n\r\n").quality == BAD


@pytest.mark.parametrize(
    "headers",
    [
        b"X: traceparent: " + W3C,
        b"xtraceparent: " + W3C,
        b"traceparents: " + W3C,
        b"traceparent : " + W3C,
        b" traceparent: " + W3C,
        b"X: y\r\n\ttraceparent: " + W3C,
        b"X: y\ntraceparent: " + W3C,
        b"X: y\rtraceparent: " + W3C,
        b"traceparent " + W3C,
    ],
)
def test_search_decoys_are_not_found(headers: bytes) -> None:
    assert found(headers + b"\r\n\r\n") == (NONE, bytes(16), bytes(8), 0, 0, 0)


def test_search_name_in_the_request_line_is_not_found() -> None:
    assert search(b"GET traceparent: " + W3C + b"\r\n\r\n", 4096, ALL).kind == NONE


def test_search_behind_the_empty_line_is_not_found() -> None:
    assert found(b"\r\ntraceparent: " + W3C + b"\r\n\r\n") == (NONE, bytes(16), bytes(8), 0, 0, 0)


def test_search_two_ends_in_one_word_are_both_seen() -> None:
    assert found(b"b3: 0\r\ntraceparent: " + W3C + b"\r\n\r\n").offset == 23
    assert found(b"x:1\r\n\r\ntraceparent: " + W3C + b"\r\n").quality == 0


# The field's CR is at offset 16 + 13 + 55 = 84.
@pytest.mark.parametrize(
    ("window", "kind", "quality"), [(84, 0, EXCEEDED), (85, 1, 0), (86, 1, 0), (64, 0, EXCEEDED)]
)
def test_search_window_must_hold_the_ending_cr(window: int, kind: int, quality: int) -> None:
    outcome = found(b"traceparent: " + W3C + b"\r\n\r\n", window)
    assert (outcome.kind, outcome.quality) == (kind, quality)


def test_search_without_empty_line_exceeds_the_window() -> None:
    assert found(b"Host: a\r\n").quality == EXCEEDED


def test_search_empty_line_cut_behind_its_cr_counts() -> None:
    assert found(b"\r\nX: y", 17).quality == 0


def test_search_disabled_kind_does_not_exist() -> None:
    names = names_of(ProgramSpec(contexts=frozenset({"b3-multi"})))
    assert search(LINE + b"traceparent: x\r\nb3: y\r\n\r\n", 4096, names).quality == 0
