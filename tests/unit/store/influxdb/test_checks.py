# SPDX-License-Identifier: Apache-2.0
"""What is concluded from what a server said."""

import pytest

from store.influxdb.admin import Bucket
from store.influxdb.checks import (
    Check,
    State,
    clock_check,
    probe_check,
    version_check,
    victoriametrics_checks,
)
from store.influxdb.probing import Probe
from store.influxdb.target import Flavour
from store.influxdb.victoriametrics import VictoriaMetrics, parse_metrics

S = 1_000_000_000
DAY_S = 86_400
WEEK_S = 7 * DAY_S


@pytest.mark.parametrize(
    ("server_s", "state"),
    [
        (100, State.OK),
        (98, State.OK),
        (97, State.OK),
        (96, State.WARNING),
        (102, State.OK),
        (104, State.WARNING),
        (40, State.WARNING),
        (38, State.FAILED),
        (162, State.FAILED),
    ],
)
def test_clock_check_allows_for_the_second_that_is_said(server_s: int, state: State) -> None:
    assert clock_check(server_s * S, 100 * S, 100 * S + 1).state is state


def test_clock_check_of_a_slow_answer_is_ok_for_any_time_within_it() -> None:
    for server_s in (100, 110, 120):
        assert clock_check(server_s * S, 100 * S, 120 * S).state is State.OK


def test_clock_check_says_how_far_and_which_way() -> None:
    assert clock_check(100 * S, 3701 * S, 3701 * S + 1).seen == "the server's is 3,600 s behind ours"
    assert clock_check(3700 * S, 100 * S, 100 * S + 1).seen == "the server's is 3,600 s ahead of ours"


def test_clock_check_without_a_time_is_skipped() -> None:
    assert clock_check(None, 1, 2).state is State.SKIPPED


@pytest.mark.parametrize(
    ("flavour", "said", "state"),
    [
        (Flavour.INFLUXDB2, "v2.7.12", State.OK),
        (Flavour.INFLUXDB2, "2.0.0", State.OK),
        (Flavour.INFLUXDB2, "v3.1.0", State.FAILED),
        (Flavour.INFLUXDB2, "1.8.10", State.FAILED),
        (Flavour.INFLUXDB2, "20.1", State.FAILED),
        (Flavour.INFLUXDB1, "1.6.7~rc0", State.OK),
        (Flavour.INFLUXDB1, "1.11.8", State.OK),
        (Flavour.INFLUXDB1, "1.5.4", State.FAILED),
        (Flavour.INFLUXDB1, "v2.7.12", State.FAILED),
        (Flavour.INFLUXDB1, "dev", State.FAILED),
        (Flavour.INFLUXDB1, "", State.FAILED),
    ],
)
def test_version_check_knows_1_6_to_1_x_and_2_x(flavour: Flavour, said: str, state: State) -> None:
    assert version_check(flavour, {"x-influxdb-version": said}).state is state


def test_version_check_of_the_other_influxdb_names_the_url_that_is_meant() -> None:
    check = version_check(Flavour.INFLUXDB2, {"x-influxdb-version": "1.8.10"})
    assert check.seen == "InfluxDB 1.8.10, not 2.x"
    assert check.advice.endswith("of an InfluxDB 1 the URL begins with influxdb1://")


BUCKET = Bucket("b", WEEK_S, "id")


@pytest.mark.parametrize(
    ("probe", "bucket", "expected"),
    [
        (Probe(0.0124, True), BUCKET, Check("b", State.OK, "written and read back in 12 ms, kept 7 days")),
        (Probe(0.0124, True), None, Check("b", State.OK, "written and read back in 12 ms")),
        (
            Probe(0.0124, True),
            Bucket("b", 0, "id"),
            Check("b", State.OK, "written and read back in 12 ms, kept for ever"),
        ),
        (
            Probe(0.0124, True),
            Bucket("b", DAY_S, "id"),
            Check(
                "b",
                State.WARNING,
                "written and read back in 12 ms, kept 1 day",
                "7 days are meant: run overhop store init",
            ),
        ),
        (
            Probe(0.0124, True, left="not authorized"),
            BUCKET,
            Check(
                "b",
                State.OK,
                "written and read back in 12 ms, kept 7 days; the probe stays there: not authorized",
            ),
        ),
        (
            Probe(0.0124, False, hidden="no right"),
            None,
            Check(
                "b",
                State.WARNING,
                "written in 12 ms; it cannot be read with this token: no right",
                "good for agents; hops and trace need a token that reads",
            ),
        ),
        (
            Probe(0.0124, False),
            BUCKET,
            Check("b", State.FAILED, "a point was written and is not there", "look at the server's log"),
        ),
    ],
)
def test_probe_check_says_what_a_point_tells(probe: Probe, bucket: Bucket | None, expected: Check) -> None:
    assert probe_check("b", probe, WEEK_S, bucket) == expected


@pytest.mark.parametrize(
    ("value", "retention_s"),
    [("1", 31 * DAY_S), ("7d", WEEK_S), ("36h", 36 * 3600), ("2w", 2 * WEEK_S), ("1y", 365 * DAY_S)],
)
def test_parse_metrics_knows_how_victoriametrics_writes_its_retention(value: str, retention_s: int) -> None:
    text = f'flag{{name="retentionPeriod", value="{value}", is_set="true"}} 1\n'
    text += 'vm_app_version{version="victoria-metrics-x", short_version="v1.79.5"} 1\n'
    assert parse_metrics(text) == VictoriaMetrics("v1.79.5", retention_s)


@pytest.mark.parametrize("text", ["", "<html>", "go_goroutines 8\n", "# vm_app_version\n"])
def test_parse_metrics_of_another_server_is_none(text: str) -> None:
    assert parse_metrics(text) is None


@pytest.mark.parametrize(
    ("found", "states"),
    [
        (VictoriaMetrics("v1.79.5", WEEK_S), [State.OK, State.OK]),
        (VictoriaMetrics("v1.79.5", WEEK_S - 1), [State.OK, State.WARNING]),
        (VictoriaMetrics("", None), [State.OK]),
        (401, [State.WARNING]),
        (None, [State.FAILED]),
    ],
)
def test_victoriametrics_checks_of_what_it_says(
    found: VictoriaMetrics | int | None, states: list[State]
) -> None:
    assert [check.state for check in victoriametrics_checks(found)] == states
