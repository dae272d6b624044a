# SPDX-License-Identifier: Apache-2.0
"""What `overhop store` shows."""

import pytest

from overhop import output
from overhop.store_view import checks_view, imported_lines, made_lines, usage_json, usage_view
from store.importing import Imported
from store.influxdb.admin import Done
from store.influxdb.checks import Check, State
from store.influxdb.sizing import Used
from store.influxdb.usage import BucketUsage
from store.schema import HOP_10S, HOP_SAMPLE, TABLES

DAY_S = 86_400
BUSY = [
    BucketUsage(
        table,
        f"overhop_{name}",
        Used(123_456, 100, 98_765_432, 987_654_321, 987_654_321, 98_765_432_100),
        kept_s,
    )
    for table, name, kept_s in zip(
        TABLES, ("10s", "1m", "10m", "samples", "events"), [each.retention_s for each in TABLES], strict=True
    )
]


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_made_lines_say_what_was_done() -> None:
    done = [
        Done("a", "created", 7 * DAY_S),
        Done("b", "retention changed", 7 * DAY_S, DAY_S),
        Done("c", "unchanged", 0),
    ]
    assert made_lines(done) == [
        "a: created, kept 7 days",
        "b: retention changed, kept 7 days (was 1 day)",
        "c: unchanged, kept for ever",
    ]


def test_checks_view_has_what_to_do_below_what_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(
        checks_view(
            "influxdb1://h:8086/",
            [
                Check("reachable", State.OK, "in 3 ms"),
                Check("bucket overhop_10s", State.FAILED, "is missing\x1b[2J", "run overhop store init"),
            ],
        )
    )
    assert capsys.readouterr().out.splitlines() == [
        "store influxdb1://h:8086/",
        "ok      reachable           in 3 ms",
        "failed  bucket overhop_10s  is missing\\x1b[2J",
        "                            → run overhop store init",
    ]


def test_usage_view_of_a_large_store_fits_80_columns_uncut(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(usage_view("influxdb2://influxdb.example:8086/overhop", BUSY))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert [line.split()[0] for line in lines[2:7]] == [each.bucket for each in BUSY]
    assert "123,456" in lines[2]
    assert "98.8 GB" in lines[2]


def test_usage_view_of_an_empty_store_has_question_marks(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(usage_view("s", [BucketUsage(HOP_10S, "overhop_10s", Used(0, 0, 0, 0, 0, None), 7 * DAY_S)]))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[2] == ["overhop_10s", "0", "0", "0", "0", "0", "?", "?"]
    assert lines[5] == ["overhop_10s", "7", "d", "0", "?", "0", "/", "?", "0", "/", "?"]


def test_usage_json_has_everything() -> None:
    found = usage_json(BucketUsage(HOP_SAMPLE, "b", Used(64, 1, 10, 20, 100, 14_000), 3 * DAY_S))
    assert found == {
        "table": "hop_sample",
        "bucket": "b",
        "kept_s": 259_200,
        "series": 64,
        "nodes": 1,
        "rows_hour": 10,
        "rows_day": 20,
        "rows": 100,
        "size_bytes": 14_000,
        "bytes_per_row": 140.0,
        "full": {
            "rows_per_day": 240.0,
            "rows": 720.0,
            "size_bytes": 100_800.0,
            "node": {"series": 64, "rows_per_day": 240.0, "size_bytes": 100_800.0},
            "pairs": {"series": 0, "rows_per_day": 0.0, "size_bytes": 0.0},
        },
    }


def test_imported_lines_say_what_became_of_rows() -> None:
    done = Imported(is_continued=True, problems=["a.seg: damaged"])
    done.read["hop_10s"], done.written["hop_10s"] = 1000, 700
    done.too_old["hop_10s"], done.rejected["hop_10s"] = 200, 100
    assert imported_lines(done) == [
        "it went on where an earlier import ended",
        "hop_10s: 1,000 rows read, 700 written, 200 older than they are kept, 100 refused",
        "not read: a.seg: damaged",
    ]
    assert imported_lines(Imported()) == ["nothing to import"]
