# SPDX-License-Identifier: Apache-2.0
"""What a VictoriaMetrics says of itself at /metrics: version, retention, and whether twice is once."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from store.influxdb.http import Connection

_VERSION: Final = re.compile(r'^vm_app_version\{[^}]*short_version="([^"]*)"', re.MULTILINE)
_RETENTION: Final = re.compile(
    r'^flag\{name="retentionPeriod", value="(\d+(?:\.\d+)?)([hdwy]?)"', re.MULTILINE
)
_DEDUPLICATED: Final = re.compile(r'^flag\{name="dedup\.minScrapeInterval", value="([^"]*)"', re.MULTILINE)
_DAY_S: Final = 86_400
_NEVER: Final = ("", "0", "0s")
_UNITS_S: Final = {"": 31 * _DAY_S, "h": 3600, "d": _DAY_S, "w": 7 * _DAY_S, "y": 365 * _DAY_S}
"""Of -retentionPeriod (https://docs.victoriametrics.com/#retention); a number alone is months."""


@dataclass(frozen=True, slots=True)
class VictoriaMetrics:
    """One that answered. `version`: empty if it does not say; the others: None if it does not say."""

    version: str
    retention_s: int | None
    is_deduplicating: bool | None = None
    """Whether a row that is sent twice counts once."""


def parse_metrics(text: str) -> VictoriaMetrics | None:
    """None: it is no VictoriaMetrics."""
    version, retention = _VERSION.search(text), _RETENTION.search(text)
    if version is None:
        return None
    deduplicated = _DEDUPLICATED.search(text)
    kept_s = None if retention is None else int(float(retention[1]) * _UNITS_S[retention[2]])
    is_deduplicating = None if deduplicated is None else deduplicated[1] not in _NEVER
    return VictoriaMetrics(version[1], kept_s, is_deduplicating)


def ask(connection: Connection) -> VictoriaMetrics | int | None:
    """None: it is no VictoriaMetrics; a number: HTTP's status, it tells nobody. Raises Unreachable."""
    answer = connection.request("GET", "/metrics")
    if answer.status != HTTPStatus.OK:
        return answer.status
    return parse_metrics(answer.data.decode(errors="replace"))
