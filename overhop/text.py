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


def columns_of(text: str) -> int:
    """How many columns of a terminal `text` takes: some characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` columns, the middle replaced by one ellipsis: both ends tell pods apart."""
    if columns_of(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    head = _fitting(text, (width - 1) // 2)
    tail = _fitting(text[::-1], width - 1 - columns_of(head))[::-1]
    return f"{head}…{tail}"


def padded(text: str, width: int, *, right: bool = False) -> str:
    """`text` in exactly `width` columns, shortened or with blanks behind it (`right`: before it)."""
    text = shortened(text, width)
    blanks = " " * (width - columns_of(text))
    return blanks + text if right else text + blanks


def _fitting(text: str, width: int) -> str:
    """The longest beginning of `text` that takes at most `width` columns."""
    taken = 0
    for at, character in enumerate(text):
        taken += columns_of(character)
        if taken > width:
            return text[:at]
    return text


def microseconds(value_us: float | None) -> str:
    """Three significant digits; empty where there is no value."""
    if value_us is None:
        return ""
    if value_us >= 100:
        return f"{value_us:,.0f}"
    return f"{value_us:.1f}" if value_us >= 10 else f"{value_us:.2f}"


def counted(number: int, what: str) -> str:
    """`1 hop`, `2 hops`"""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def listed(names: Sequence[str], most: int = 6) -> str:
    """`a, b, c and 12 more`"""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
