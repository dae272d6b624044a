# SPDX-License-Identifier: Apache-2.0
"""Names and numbers as people read them. What comes from outside never reaches a terminal unescaped."""

from collections.abc import Sequence


def printable(text: str) -> str:
    """`text` with what could move a cursor, colour, reorder or break a line written as an escape."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape").decode("ascii")
        if ord(character) < 0xD800 or ord(character) > 0xDFFF
        else f"\\u{ord(character):04x}"
        for character in text
    )


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` columns, the middle replaced by one ellipsis: both ends tell pods apart."""
    if len(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    head = (width - 1) // 2
    tail = width - 1 - head
    return f"{text[:head]}…{text[len(text) - tail :]}"


def microseconds(value_us: float | None) -> str:
    """Three significant digits; empty where there is no value."""
    if value_us is None:
        return ""
    if value_us >= 100:
        return f"{value_us:,.0f}"
    return f"{value_us:.1f}" if value_us >= 10 else f"{value_us:.2f}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """`a, b, c and 12 more`"""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
