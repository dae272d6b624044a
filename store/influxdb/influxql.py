# SPDX-License-Identifier: Apache-2.0
"""Statements of InfluxQL, which InfluxDB 1 and 2 both answer. No value becomes text without `literal`."""

from collections.abc import Iterable, Sequence
from typing import Final

from store.conditions import Comparison, Condition
from store.influxdb.lines import tags_of
from store.influxdb.tags import stored_tag
from store.schema import TEXT, Table

_INT64: Final = 1 << 63
_LITERAL: Final = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n"})


def literal(text: str) -> str:
    """A text between quotes."""
    return f"'{text.translate(_LITERAL)}'"


def quoted(name: str) -> str:
    """A name of ours: of a column, tag or measurement."""
    return f'"{name}"'


def names(columns: Iterable[str]) -> str:
    """Names one behind the other."""
    return ", ".join(quoted(column) for column in columns)


def where(table: Table, conditions: Sequence[Condition]) -> str:
    """` WHERE ...`, empty without conditions."""
    texts = [_any_of(table, condition) for condition in conditions]
    return f" WHERE {' AND '.join(texts)}" if texts else ""


def _any_of(table: Table, condition: Condition) -> str:
    """At least one of these, each of which is several tests that hold together."""
    alternatives = [" AND ".join(_comparison(table, test) for test in tests) for tests in condition]
    if len(alternatives) == 1:
        return alternatives[0]
    return "(" + " OR ".join(f"({each})" for each in alternatives) + ")"


def _comparison(table: Table, test: Comparison) -> str:
    name = test.column if test.column == "time" else quoted(test.column)
    if test.column != "time" and table.dtype_of(test.column) == TEXT:
        text = str(test.value)
        return f"{name} = {literal(stored_tag(text) if test.column in tags_of(table) else text)}"
    number = max(-_INT64, min(int(test.value), _INT64 - 1))
    return f"{name} {test.operator} {number}"
