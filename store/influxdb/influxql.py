# SPDX-License-Identifier: Apache-2.0
"""Statements of InfluxQL, which InfluxDB 1 and 2 both answer. No value becomes text but by `equals`.

Its strings know the escapes \\n, \\\\ and \\' only, and a carriage return or NUL cannot stand in one: such a
text is compared by a regular expression of ASCII (Go's RE2 syntax).
"""

import re
from collections.abc import Iterable, Sequence
from string import ascii_letters, digits
from typing import Final

from store.conditions import Comparison, Condition
from store.influxdb.lines import tags_of
from store.influxdb.tags import stored_tag
from store.schema import TEXT, Table

_LEAST_TIME_NS: Final = -(1 << 63) + 2
_GREATEST_TIME_NS: Final = (1 << 63) - 2
"""What InfluxDB takes for a time; it reads others as something else."""
_INT64: Final = 1 << 63
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
"""No stored text has one; in an expression it would be U+FFFD."""
_STRING: Final = re.compile(r"[^\r\x00\ud800-\udfff]*")
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n"})
_PLAIN: Final = frozenset(ascii_letters + digits + "_-")


def equals(name: str, text: str) -> str:
    """A condition: tag or field `name` is `text`; an empty text also means that there is no such tag."""
    if _STRING.fullmatch(text):
        return f"{quoted(name)} = '{text.translate(_ESCAPES)}'"
    return is_any(name, [text])


def is_any(name: str, texts: Iterable[str]) -> str:
    """A condition: `name` is one of these."""
    stored = [text for text in texts if not _SURROGATE.search(text)]
    if not stored:
        return f"({quoted(name)} = 'is' AND {quoted(name)} = 'never')"
    return f"{quoted(name)} =~ /^({'|'.join(map(_expression, stored))})$/"


def quoted(name: str) -> str:
    """A name of ours: of a column, tag or measurement."""
    return f'"{name}"'


def names(columns: Iterable[str]) -> str:
    """Names one behind the other."""
    return ", ".join(quoted(column) for column in columns)


def where(table: Table, conditions: Sequence[Condition], *more: str) -> str:
    """` WHERE ...`, empty without conditions; `more` are conditions in InfluxQL."""
    texts = [*(_any_of(table, condition) for condition in conditions), *more]
    return f" WHERE {' AND '.join(texts)}" if texts else ""


def _expression(text: str) -> str:
    return "".join(each if each in _PLAIN else f"\\x{{{ord(each):x}}}" for each in text)


def _any_of(table: Table, condition: Condition) -> str:
    """At least one of these, each of which is several tests that hold together."""
    tests = [test for each in condition for test in each]
    if len(tests) == len(condition) > 1 and len({test.column for test in tests}) == 1:
        column = tests[0].column
        if table.dtype_of(column) == TEXT:
            return is_any(column, [_text(table, test) for test in tests])
    alternatives = [" AND ".join(_comparison(table, test) for test in each) for each in condition]
    if len(alternatives) == 1:
        return alternatives[0]
    return "(" + " OR ".join(f"({each})" for each in alternatives) + ")"


def _comparison(table: Table, test: Comparison) -> str:
    if test.column == "time":
        time_ns = max(_LEAST_TIME_NS, min(int(test.value), _GREATEST_TIME_NS))
        return f"time {test.operator} {time_ns}"
    if table.dtype_of(test.column) == TEXT:
        return equals(test.column, _text(table, test))
    number = max(-_INT64, min(int(test.value), _INT64 - 1))
    return f"{quoted(test.column)} {test.operator} {number}"


def _text(table: Table, test: Comparison) -> str:
    """What a text is compared with."""
    text = str(test.value)
    return stored_tag(text) if test.column in tags_of(table) else text
