# SPDX-License-Identifier: Apache-2.0
import pytest

from overhop.text import columns_of, listed, microseconds, padded, printable, shortened


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("web-6d4b9-x2x", "web-6d4b9-x2x"),
        ("über", "über"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("abc\u202edef", "abc\\u202edef"),
        ("half\udc80", "half\\udc80"),
    ],
)
def test_printable_hostile_text_is_escaped(given: str, expected: str) -> None:
    assert printable(given) == expected


@pytest.mark.parametrize(
    ("width", "expected"), [(20, "productpage-v1-abc"), (9, "prod…-abc"), (2, "…c"), (1, "…"), (0, "")]
)
def test_shortened_keeps_both_ends(width: int, expected: str) -> None:
    assert shortened("productpage-v1-abc", width) == expected


@pytest.mark.parametrize(
    ("value_us", "expected"),
    [(None, ""), (0.5, "0.50"), (9.87, "9.87"), (45.26, "45.3"), (123.4, "123"), (2_000_000.0, "2,000,000")],
)
def test_microseconds_has_three_digits(value_us: float | None, expected: str) -> None:
    assert microseconds(value_us) == expected


def test_listed_many_names_are_counted() -> None:
    assert listed(["a", "b", "c"], most=2) == "a, b and 1 more"
    assert listed(["a", "b"], most=2) == "a, b"


@pytest.mark.parametrize(("width", "expected"), [(8, "測試名稱"), (7, "測…名稱"), (6, "測…稱"), (2, "…")])
def test_shortened_counts_columns_not_characters(width: int, expected: str) -> None:
    assert shortened("測試名稱", width) == expected
    assert columns_of(expected) <= width


def test_padded_is_exactly_as_wide_as_asked() -> None:
    assert padded("ab", 4) == "ab  "
    assert padded("ab", 4, right=True) == "  ab"
    assert padded("測試", 2) == "… "
