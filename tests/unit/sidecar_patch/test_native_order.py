# SPDX-License-Identifier: Apache-2.0
"""The order in which the native module leaves headers, also when a call into Envoy or an allocation fails."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sidecar.wanted import wanted
from tests.unit.sidecar_patch.fake_envoy import FakeEnvoy, Faults, Headers

NAMES = (b"traceparent", b"tracestate", b"b3")
PSEUDO = [(b":authority", b"shop"), (b":path", b"/"), (b":method", b"GET")]
OTHERS = (b"a", b"b", b"accept", b"content-type", b"b4", b"x" * 70, b"y" * 63)

name = st.sampled_from(NAMES + OTHERS) | st.text("abcdefgh-", min_size=1, max_size=11).map(str.encode)
value = st.binary(min_size=1, max_size=12)
full = st.lists(st.tuples(name, value), max_size=30)
gaps = st.lists(st.tuples(name, value | st.just(b"")), max_size=30)
many = settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
"""The fixture is one program for all examples; it keeps nothing between requests."""


@pytest.fixture(autouse=True)
def _names(fake: FakeEnvoy) -> None:
    assert fake.configure(b",".join(NAMES)) is None


def relocated(headers: Headers) -> Headers:
    """What is asked for, if no value is empty."""
    return [header for wanted in NAMES for header in of_name(wanted, headers)] + others(headers)


def others(headers: Headers) -> Headers:
    return [header for header in headers if header[0] not in NAMES]


def of_name(wanted: bytes, headers: Headers) -> Headers:
    return [header for header in headers if header[0] == wanted]


def test_order_of_contexts_is_that_of_the_configuration(fake: FakeEnvoy) -> None:
    served = fake.serve([*PSEUDO, (b"a", b"1"), (b"b3", b"b"), (b"b", b"2"), (b"traceparent", b"t")])
    assert served.headers == [*PSEUDO, (b"traceparent", b"t"), (b"b3", b"b"), (b"a", b"1"), (b"b", b"2")]
    assert served.counted == {"relocated": 1}


def test_order_of_duplicates_is_kept(fake: FakeEnvoy) -> None:
    served = fake.serve([(b"a", b"1"), (b"b3", b"x"), (b"b", b"2"), (b"a", b"3"), (b"b3", b"y")])
    assert served.headers == [(b"b3", b"x"), (b"b3", b"y"), (b"a", b"1"), (b"b", b"2"), (b"a", b"3")]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        PSEUDO,
        [*PSEUDO, (b"a", b"1"), (b"b", b"")],
        [*PSEUDO, (b"tracestate", b"s"), (b"b3", b"b"), (b"a", b"")],
    ],
)
def test_order_that_is_right_costs_two_calls(fake: FakeEnvoy, headers: Headers) -> None:
    served = fake.serve(headers)
    assert (served.headers, served.counted) == (headers, {})
    assert served.calls == (2 if headers else 1)


def test_order_is_reached_with_one_call_for_each_header_behind_the_context(fake: FakeEnvoy) -> None:
    headers = [*PSEUDO, *((b"h%d" % at, b"v") for at in range(12)), (b"traceparent", b"t"), (b"b3", b"b")]
    assert fake.serve(headers).calls == 2 + 12


def test_order_of_too_many_headers_is_left_and_counted(fake: FakeEnvoy) -> None:
    headers = [(b"a", b"1")] * 2048 + [(b"b3", b"b")]
    served = fake.serve(headers)
    assert (served.headers, served.counted) == (headers, {"skipped": 1})
    assert fake.serve(headers[1:]).headers == [headers[-1], *headers[1:-1]]


def test_order_of_too_many_bytes_is_left_and_counted(fake: FakeEnvoy) -> None:
    headers = [(b"a", b"v" * (16 << 20)), (b"b3", b"b")]
    assert fake.serve(headers).counted == {"skipped": 1}


def test_order_before_a_header_without_a_value_is_left_and_counted(fake: FakeEnvoy) -> None:
    served = fake.serve([(b"a", b"1"), (b"none", b""), (b"b", b"2"), (b"c", b"3"), (b"b3", b"b")])
    assert served.headers == [(b"a", b"1"), (b"none", b""), (b"b3", b"b"), (b"b", b"2"), (b"c", b"3")]
    assert served.counted == {"held": 1, "relocated": 1}


def test_order_with_a_context_without_a_value_behind_another_is_the_wanted_one(fake: FakeEnvoy) -> None:
    # As Envoy's OpenTelemetry tracer appends them.
    served = fake.serve([*PSEUDO, (b"a", b"1"), (b"traceparent", b"t"), (b"tracestate", b"")])
    assert served.headers == [*PSEUDO, (b"traceparent", b"t"), (b"tracestate", b""), (b"a", b"1")]
    assert served.counted == {"relocated": 1}


def test_order_of_contexts_is_kept_where_one_without_a_value_would_have_to_move(fake: FakeEnvoy) -> None:
    served = fake.serve([(b"a", b"1"), (b"tracestate", b""), (b"b", b"2"), (b"traceparent", b"t")])
    assert served.headers == [(b"tracestate", b""), (b"traceparent", b"t"), (b"a", b"1"), (b"b", b"2")]
    assert served.counted == {"held": 1, "relocated": 1}


def test_order_that_cannot_be_bettered_is_counted_as_held(fake: FakeEnvoy) -> None:
    headers = [(b"b3", b"b"), (b"traceparent", b"t"), (b"none", b"")]
    served = fake.serve(headers)
    assert (served.headers, served.counted, served.calls) == (headers, {"held": 1}, 2)


def test_order_of_what_shares_a_name_with_what_is_left_is_left(fake: FakeEnvoy) -> None:
    headers = [(b"a", b"1"), (b"none", b""), (b"b", b"2"), (b"a", b"3"), (b"c", b"4"), (b"b3", b"b")]
    assert fake.serve(headers).headers == [*headers[:4], (b"b3", b"b"), (b"c", b"4")]


@many
@given(full)
def test_order_is_contexts_first_and_the_others_as_they_were(fake: FakeEnvoy, headers: Headers) -> None:
    assert fake.serve(PSEUDO + headers).headers == PSEUDO + relocated(headers)


@many
@given(gaps)
def test_order_with_empty_values_is_the_wanted_one(fake: FakeEnvoy, headers: Headers) -> None:
    served = fake.serve(PSEUDO + headers).headers
    assert served == PSEUDO + wanted(headers, NAMES, moves_empty=False)
    assert others(served) == others(PSEUDO + headers)
    assert Counter(served) == Counter(PSEUDO + headers)


@many
@given(gaps, st.integers(0, 80), st.integers(0, 5))
def test_order_after_a_call_failed_is_the_old_or_the_wanted_one(
    fake: FakeEnvoy, headers: Headers, call: int, allocation: int
) -> None:
    expected = fake.serve(headers)
    served = fake.serve(headers, Faults(call, allocation))
    assert served.headers in (headers, expected.headers)
    if call != 1 and served.headers != expected.headers:
        assert served.counted["errors"] == 1


def test_order_when_reading_fails_is_the_old_one_and_counted(fake: FakeEnvoy) -> None:
    headers = [*PSEUDO, (b"a", b"1"), (b"b3", b"b")]
    served = fake.serve(headers, Faults(call=2))
    assert (served.headers, served.counted) == (headers, {"errors": 1})


def test_order_after_each_move_failed_once_is_the_wanted_one_and_counted(fake: FakeEnvoy) -> None:
    headers = [*PSEUDO, (b"a", b"1"), (b"b3", b"b"), (b"a", b"2"), (b"c", b"3"), (b"traceparent", b"t")]
    expected = fake.serve(headers)
    assert expected.calls == 2 + 4
    for call in range(3, 7):
        served = fake.serve(headers, Faults(call))
        assert (served.headers, served.calls) == (expected.headers, 7), f"call {call}"
        assert served.counted == {"relocated": 1, "errors": 1}


@pytest.mark.parametrize("allocation", [1, 2, 3])
def test_order_without_memory_is_the_old_one_and_counted(fake: FakeEnvoy, allocation: int) -> None:
    headers = [(b"a", b"1"), (b"b3", b"b")]
    served = fake.serve(headers, Faults(allocation=allocation))
    assert (served.headers, served.counted) == (headers, {"errors": 1})


@many
@given(st.lists(st.tuples(name, value), max_size=30, unique_by=lambda header: header[0]), st.integers(1, 60))
def test_order_when_every_further_call_fails_loses_no_header(
    fake: FakeEnvoy, headers: Headers, call: int
) -> None:
    assert Counter(fake.serve(headers, Faults(call, stays=True)).headers) == Counter(headers)
