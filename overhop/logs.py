# SPDX-License-Identifier: Apache-2.0
"""Structured logs on standard error: `key=value` lines for people, one JSON object a line for machines.

Code logs with the standard library: `logging.getLogger(__name__).info("attached", extra={"ifname": "eth0"})`.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

from overhop.text import printable

LEVELS = ("debug", "info", "warning", "error")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str = "info", *, as_json: bool = False, stream: TextIO | None = None) -> None:
    """Send the logs of this process to `stream` (default: standard error); replaces earlier handlers.

    Raises ValueError if `level` is none of LEVELS.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is unknown, known: {', '.join(LEVELS)}")
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonLines() if as_json else KeyValueLines())
    handler.addFilter(_is_named)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)


class KeyValueLines(logging.Formatter):
    """`ts=... level=info logger=agent.attach msg="attached" ifname=eth0`"""

    def format(self, record: logging.LogRecord) -> str:
        """One line, control characters escaped."""
        return " ".join(f"{key}={_quoted(value)}" for key, value in fields_of(record).items())


class JsonLines(logging.Formatter):
    """The same fields as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return json.dumps(fields_of(record), default=str)


def fields_of(record: logging.LogRecord) -> Mapping[str, object]:
    """Time, level, logger, message, then what came as `extra`, then the exception."""
    found: dict[str, object] = {
        "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "msg": record.getMessage(),
    }
    found |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
    if record.exc_info:
        found["exception"] = logging.Formatter().formatException(record.exc_info)
    return found


def _is_named(record: logging.LogRecord) -> bool:
    """influxdb_client logs whole answers of a server by no name, and they may repeat a token."""
    return record.name != "root"


def _quoted(value: object) -> str:
    text = str(value)
    clean = printable(text)
    if clean == text and text and not any(character in text for character in ' "=\\'):
        return text
    return json.dumps(clean, ensure_ascii=False)
