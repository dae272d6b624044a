# SPDX-License-Identifier: Apache-2.0
"""Times as people give them. Pure: now is an argument."""

import re
from datetime import UTC, datetime

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_FAR_S = 1e12
"""Longer ago than 1970 in any unit."""
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)


def parse_time(text: str, now_ns: int) -> int:
    """ns since 1970 of `90s`, `30m`, `1h`, `2d`, `1w` (ago), `now`, or an ISO 8601 time.

    An ISO time without an offset is the local time of this machine. Raises ValueError.
    """
    stripped = text.strip()
    if stripped == "now":
        return now_ns
    ago = _AGO.fullmatch(stripped)
    if ago is not None:
        return now_ns - min(now_ns, round(min(float(ago[1]), _FAR_S) * _SECONDS[ago[2]] * 1e9))
    try:
        moment = datetime.fromisoformat(stripped).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        hint = "give 90s, 30m, 1h, 2d, now or a time such as 2026-11-20T17:05 or 2026-11-20T17:05:00Z"
        raise ValueError(f"{text[:80]!r} is no time: {hint}") from None
    since_1970 = moment - datetime(1970, 1, 1, tzinfo=UTC)
    if since_1970.total_seconds() < 0 or moment > _LATEST:
        raise ValueError(f"{text[:80]!r} is not between 1970 and 2200")
    return (since_1970.days * 86_400 + since_1970.seconds) * 1_000_000_000 + since_1970.microseconds * 1000


def time_text(time_ns: int) -> str:
    """`2026-11-20T17:05:12Z`"""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
