# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

from overhop.demo.outcome import Account
from overhop.demo.report import as_json, problems
from tests.unit.demo_records import TRACE, counters, outcome


def test_as_json_has_the_promised_keys_and_numbers() -> None:
    said = json.loads(json.dumps(as_json(outcome())))
    assert list(said) == [
        "requests",
        "traces_found",
        "found_by",
        "hops",
        "hops_expected",
        "hops_recorded",
        "routes",
        "contexts",
        "counters",
        "imbalances",
        "trace",
        "topology",
        "steps_s",
    ]
    assert (said["requests"], said["traces_found"]) == (30, 30)
    assert said["hops"]["tx"] == {
        "count": 20,
        "retransmitted": 0,
        "p50_us": 3.26,
        "p99_us": 8.66,
        "max_us": 1234.5,
        "quality": {"dnat": 20},
    }
    assert (said["hops_expected"], said["hops_recorded"]) == (50, {"n1": 30, "n2": 20})
    assert said["contexts"] == {"w3c": {"requests": 20, "found": 20}, "none": {"requests": 10, "found": 10}}
    assert said["routes"][0] == {
        "route": "service",
        "from": "client",
        "to": "service web",
        "calls": "10.96.0.10:80",
        "hops": ["n1 tx", "n2 rx"],
        "requests": 20,
        "found": 20,
    }
    assert said["counters"]["nodes"]["n1"]["expired"] == 2
    assert said["counters"]["total"]["first"] == 52
    assert said["imbalances"]["total"] == {"first": 0, "second": 0, "taken": 0}
    assert said["trace"]["trace_id"] == TRACE
    assert [hop["kind"] for hop in said["trace"]["hops"]] == ["tx", "rx"]
    assert said["trace"]["hops"][1]["wire"] == {"time_ns": 1410, "error_ns": 0, "sure": True}
    assert said["steps_s"] == {"build the lab": 0.61, "send the requests": 1.24}


def test_problems_of_a_demo_without_any_are_none() -> None:
    assert problems(outcome()) == []


def test_problems_name_requests_that_were_not_found() -> None:
    assert problems(outcome(found=19)) == ["service, w3c: 19 of 20 requests have all their hops"]


def test_problems_name_hops_that_were_not_recorded() -> None:
    assert problems(outcome(missing=3)) == ["n2: 17 of 20 hops were recorded"]


def test_problems_name_counters_that_do_not_add_up() -> None:
    good = outcome()
    off = Account(
        counters(first=20, taken=21, second=20, records=20), {"first": -1, "second": -1, "taken": 1}
    )
    found = problems(replace(good, accounts={"n1": good.accounts["n1"], "n2": off}))
    assert found == [
        "n2: first is -1 off its parts",
        "n2: second is -1 off its parts",
        "n2: taken is +1 off its parts",
    ]
