# SPDX-License-Identifier: Apache-2.0
import json
import sys

import pytest

from bench import aggregate
from bench.aggregate import SERIES, flows, main, measure
from bpf.record import Kind


def test_flows_are_all_different_and_half_of_them_receive() -> None:
    known = flows()
    assert len({bytes(row.tobytes()) for row in known}) == 5000
    assert (known["kind_message"] == Kind.RX).sum() == 2500


def test_measure_has_every_series_and_a_rate() -> None:
    speed = measure(200, 1)
    assert SERIES == 200
    assert (speed.batch, speed.hops) == (200, 100_000)
    assert 0 < speed.least_per_s <= speed.median_per_s <= speed.greatest_per_s


def test_json_names_the_rate_and_the_budget(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(aggregate, "BATCHES", (100,))
    monkeypatch.setattr(sys, "argv", ["aggregate", "--json", "--rounds", "1"])
    main()
    result = json.loads(capsys.readouterr().out)
    assert result["aggregate_hops_per_s"] > 0
    assert result["budgets"]["hops_per_s"]["budget"] == 200_000
    assert result["memory"]["series"] >= 150
