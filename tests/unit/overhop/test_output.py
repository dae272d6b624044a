# SPDX-License-Identifier: Apache-2.0
import pytest

from overhop import output


@pytest.mark.parametrize(
    ("columns", "expected"), [("", 120), ("0", 120), ("wide", 120), ("1", 20), ("60", 60), ("300", 300)]
)
def test_console_in_a_pipe_is_as_wide_as_columns_says_if_it_says_something(
    columns: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert output.console().width == expected
