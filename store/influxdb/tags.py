# SPDX-License-Identifier: Apache-2.0
"""Texts as tags and fields of line protocol, and back (docs/store.md, "Rows in InfluxDB").

In a tag a backslash cannot be written so that it ends the value, and a line feed not at all (InfluxDB's line
protocol reference): they are stored as pictures that Unicode has for them, and read back as what they were.
"""

from typing import Final

_PICTURES: Final = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421", ord("\\"): "\u29f5"}
_MEANT: Final = {ord(picture): chr(code) for code, picture in _PICTURES.items()}
_TAG: Final = str.maketrans({",": r"\,", "=": r"\=", " ": r"\ "})
_FIELD: Final = str.maketrans({'"': r"\"", "\\": r"\\"})


def stored_tag(text: str) -> str:
    """The text as the server keeps it: what a condition compares a tag with."""
    return text.translate(_PICTURES)


def tag_text(stored: str) -> str:
    """The text that `stored_tag` made this of."""
    return stored.translate(_MEANT)


def tag_value(text: str) -> str:
    """The text as it stands in a line behind `name=`."""
    return stored_tag(text).translate(_TAG)


def field_value(text: str) -> str:
    """The text as it stands in a line between quotes."""
    return text.translate(_FIELD)
