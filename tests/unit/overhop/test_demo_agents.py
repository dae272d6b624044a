# SPDX-License-Identifier: Apache-2.0
import pytest

from overhop.demo.agents import complaint

NEWS = '{"ts": "2026-11-20T15:31:23.599+00:00", "level": "info", "msg": "tracing", "nic": "eth0"}'
WARNING = '{"ts": "2026-11-20T15:31:24.000+00:00", "level": "warning", "logger": "agent.x", "msg": "late"}'
ERROR = (
    '{"level": "error", "msg": "rows cannot be stored, they wait in memory", "reason": "store /s: disk full"}'
)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ([], "it did not say why"),
        ([NEWS], "it did not say why"),
        ([NEWS, "overhop: load: no Python with bcc"], "load: no Python with bcc"),
        ([WARNING, NEWS], "late"),
        ([ERROR, NEWS], "rows cannot be stored, they wait in memory: store /s: disk full"),
        (["42"], "42"),
    ],
)
def test_complaint_is_the_last_line_that_is_more_than_news(log: list[str], expected: str) -> None:
    assert complaint(log) == expected
