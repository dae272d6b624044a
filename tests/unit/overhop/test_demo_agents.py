# SPDX-License-Identifier: Apache-2.0
import pytest

from overhop.demo.agents import complaint

NEWS = "ts=2026-11-20T15:31:23.599+00:00 level=info logger=agent.runtime msg=tracing nic=eth0"
WARNING = "ts=2026-11-20T15:31:24.000+00:00 level=warning logger=agent.runtime msg=late"


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ([], "it did not say why"),
        ([NEWS], "it did not say why"),
        ([NEWS, "overhop: load: no Python with bcc"], "load: no Python with bcc"),
        ([WARNING, NEWS], WARNING),
    ],
)
def test_complaint_is_the_last_line_that_is_more_than_news(log: list[str], expected: str) -> None:
    assert complaint(log) == expected
