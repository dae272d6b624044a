# SPDX-License-Identifier: Apache-2.0
import pytest

from store.conditions import of_hops, only, within
from store.influxdb.influxql import equals, is_any, where
from store.query import Span, Where
from store.schema import EVENT, HOP_1M, HOP_SAMPLE


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("", "\"what\" = ''"),
        ("cart", "\"what\" = 'cart'"),
        ("it's", "\"what\" = 'it\\'s'"),
        ("a\\", "\"what\" = 'a\\\\'"),
        ("a\\'b", "\"what\" = 'a\\\\\\'b'"),
        ("a\nb", "\"what\" = 'a\\nb'"),
        ("'; DROP DATABASE x --", "\"what\" = '\\'; DROP DATABASE x --'"),
        ("ü/$", "\"what\" = 'ü/$'"),
        ("a\rb", '"what" =~ /^(a\\x{d}b)$/'),
        ("\0", '"what" =~ /^(\\x{0})$/'),
        ("/'\r\n", '"what" =~ /^(\\x{2f}\\x{27}\\x{d}\\x{a})$/'),
        ("a\udcff", "(\"what\" = 'is' AND \"what\" = 'never')"),
    ],
)
def test_equals_is_a_string_or_where_none_can_hold_it_an_expression(text: str, condition: str) -> None:
    assert equals("what", text) == condition


def test_is_any_has_no_letter_of_a_value_that_could_mean_something() -> None:
    assert is_any("node", ["n-1", "n.2", "(|)*", "ü"]) == (
        '"node" =~ /^(n-1|n\\x{2e}2|\\x{28}\\x{7c}\\x{29}\\x{2a}|\\x{fc})$/'
    )


def test_where_of_hops_is_of_one_end() -> None:
    assert where(HOP_1M, of_hops(Where("shop", "cart", "n1", "rx"))) == (
        " WHERE ((\"src_ns\" = 'shop' AND \"src_workload\" = 'cart')"
        " OR (\"dst_ns\" = 'shop' AND \"dst_workload\" = 'cart'))"
        " AND \"node\" = 'n1' AND \"kind\" = 'rx'"
    )
    assert where(HOP_1M, of_hops(Where())) == ""
    assert where(HOP_1M, [], equals("node", "n1")) == " WHERE \"node\" = 'n1'"


def test_where_of_many_names_is_one_expression() -> None:
    nodes = [only("node", "=", node)[0] for node in ("n1", "a\\b")]
    assert where(HOP_1M, [tuple(nodes)]) == ' WHERE "node" =~ /^(n1|a\\x{29f5}b)$/'
    assert where(HOP_1M, [tuple(nodes[:1])]) == " WHERE \"node\" = 'n1'"


def test_where_compares_a_tag_with_what_the_server_keeps_of_it() -> None:
    assert where(EVENT, [only("what", "=", "a\\b")]) == " WHERE \"what\" = 'a⧵b'"
    assert where(EVENT, [only("state", "=", "a\\b")]) == " WHERE \"state\" = 'a\\\\b'"


def test_where_numbers_are_what_the_server_takes_for_numbers() -> None:
    assert where(HOP_SAMPLE, within(Span(-(1 << 70), 1 << 70))) == (
        " WHERE time >= -9223372036854775806 AND time < 9223372036854775806"
    )
    assert where(HOP_SAMPLE, [only("latency_ns", ">=", 1 << 64)]) == (
        ' WHERE "latency_ns" >= 9223372036854775807'
    )
