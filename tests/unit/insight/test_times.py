# SPDX-License-Identifier: Apache-2.0
import time

import pytest

from insight.times import parse_time, time_text

NOW_NS = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", 1_700_000_000_000_000_000),
        ("90s", 1_699_999_910_000_000_000),
        ("30m", 1_699_998_200_000_000_000),
        (" 1.5h ", 1_699_994_600_000_000_000),
        ("2d", 1_699_827_200_000_000_000),
        ("99999999999999999w", 0),
        ("9" * 400 + "d", 0),
        ("1w", 1_699_395_200_000_000_000),
        ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
        ("2023-11-14T23:13:20.25+01:00", 1_700_000_000_250_000_000),
        ("20231114T221320Z", 1_700_000_000_000_000_000),
    ],
)
def test_parse_time_ago_and_iso(text: str, expected: int) -> None:
    assert parse_time(text, NOW_NS) == expected


def test_parse_time_without_offset_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    try:
        assert parse_time("2023-11-15 00:13:20", NOW_NS) == 1_700_000_000_000_000_000
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text", ["", "1", "yesterday", "-1h", "1y", "2023-13-01", "\x1b[0m", "9" * 400 + "x"]
)
def test_parse_time_of_anything_else_says_what_is_known(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: give 90s, 30m, 1h, 2d, now or a time such as"):
        parse_time(text, NOW_NS)


@pytest.mark.parametrize("text", ["1969-12-31T00:00:00Z", "2400-01-01T00:00:00Z"])
def test_parse_time_that_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not between 1970 and 2200"):
        parse_time(text, NOW_NS)


def test_time_text_is_utc() -> None:
    assert time_text(NOW_NS) == "2023-11-14T22:13:20Z"
