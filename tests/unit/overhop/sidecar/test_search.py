# SPDX-License-Identifier: Apache-2.0
"""The search for all windows: literal offsets, and the model of the kernel program at every window."""

import os
from random import Random, SystemRandom

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.record import ContextKind
from bpf.spec import ProgramSpec
from overhop.sidecar.search import Place, Searched, search
from tests.oracle.context import names_of
from tests.oracle.context import search as model_search
from tests.oracle.requests import SOUP, Requests

LINE = b"GET / HTTP/1.1\r\n"  # 16 bytes
W3C = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"  # 70 bytes
B3 = b"b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1\r\n"
TRACE, SPAN = b"X-B3-TraceId: 463ac35c9f6413ad\r\n", b"X-B3-SpanId: a2fb4a1d1a96d312\r\n"
SEED = int(os.environ.get("OVERHOP_FUZZ_SEED") or SystemRandom().getrandbits(32))
ALL = names_of(ProgramSpec())
KINDS = {
    "w3c": ContextKind.W3C,
    "b3-single": ContextKind.B3_SINGLE,
    "b3-multi": ContextKind.B3_MULTI,
}


def test_search_w3c_needs_a_window_up_to_its_carriage_return() -> None:
    assert search(LINE + W3C + b"\r\n") == Searched(Place("w3c", 16, 85))


def test_search_b3_multi_begins_at_the_first_and_needs_the_last_of_its_fields() -> None:
    headers = LINE + SPAN + b"Host: a\r\n" + TRACE + b"\r\n"
    assert search(headers) == Searched(Place("b3-multi", 16, 16 + 31 + 9 + 31))


def test_search_first_complete_context_counts_though_w3c_comes_later() -> None:
    assert search(LINE + B3 + W3C + b"\r\n").place == Place("b3-single", 16, 72)


def test_search_kind_that_is_off_is_not_looked_for() -> None:
    assert search(LINE + B3 + W3C + b"\r\n", frozenset({"w3c"})).place == Place("w3c", 73, 142)


def test_search_second_field_of_a_name_does_not_count() -> None:
    assert search(LINE + b"traceparent: x\r\n" + W3C + b"\r\n") == Searched(None, is_bad=True)


@pytest.mark.parametrize("decision", [b"0", b"1", b"d"])
def test_search_b3_decision_is_neither_a_context_nor_a_bad_one(decision: bytes) -> None:
    assert search(LINE + b"b3: " + decision + b"\r\n\r\n") == Searched(None)


def test_search_behind_the_empty_line_is_nothing() -> None:
    assert search(LINE + b"\r\n" + W3C + b"\r\n") == Searched(None)


def test_search_field_without_its_end_is_not_found() -> None:
    assert search(LINE + W3C[:-2]) == Searched(None)


def test_search_bare_carriage_return_is_a_line_end_for_one_window_only() -> None:
    found = search(LINE + W3C[:-2] + b"\rx\r\n" + B3 + b"\r\n")
    assert found == Searched(Place("b3-single", 88, 144), (85,))
    assert [window for window in range(200) if found.is_found(window)] == [85, *range(144, 200)]


def test_search_agrees_with_the_model_at_every_window() -> None:
    print(f"seed {SEED}: set OVERHOP_FUZZ_SEED={SEED} to repeat")
    requests = Requests(Random(SEED), window=200, max_bytes=1500)
    for _ in range(1500):
        agrees(requests.draw())


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(sorted(set(SOUP))), max_size=40), st.binary(max_size=40))
def test_search_of_any_bytes_agrees_with_the_model(parts: list[bytes], rest: bytes) -> None:
    agrees(LINE + b"".join(parts) + rest)


def agrees(payload: bytes) -> None:
    found = search(payload)
    for window in range(len(payload) + 3):
        expected = model_search(payload, window, ALL)
        assert found.is_found(window) == bool(expected.kind), (payload, window)
        if found.place and window == found.place.window:
            assert (KINDS[found.place.kind], found.place.offset) == (expected.kind, expected.offset), payload
