# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import replace

import pytest

from overhop.demo.report import as_json, problems, window_line
from overhop.demo.stored import KeptHops
from store.spool.facts import SpoolFacts
from tests.unit.demo_records import TRACE, outcome, sight


def test_as_json_has_the_promised_keys_and_numbers() -> None:
    said = json.loads(json.dumps(as_json(outcome())))
    assert list(said) == [
        "cni",
        "sidecars",
        "relocation",
        "window",
        "requests",
        "traces_found",
        "found_by",
        "hops",
        "hops_expected",
        "hops_recorded",
        "routes",
        "contexts",
        "took",
        "sights",
        "counters",
        "imbalances",
        "stored",
        "series",
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
    assert (said["cni"], said["sidecars"], said["window"]) == ("vxlan", False, 4096)
    assert said["sights"][1] == {
        "node": "n2",
        "kind": "rx",
        "hops": 20,
        "with_context": 20,
        "window_exceeded": 0,
        "first_offset_bytes": 62,
        "last_offset_bytes": 62,
        "encaps": {"vxlan": 20},
    }
    assert said["counters"]["nodes"]["n1"]["expired"] == 2
    assert said["counters"]["total"]["first"] == 52
    assert said["imbalances"]["total"] == {"first": 0, "second": 0, "taken": 0, "summed": 0, "sampled": 0}
    assert said["stored"]["read_back"]["n2"] == {"hops": 20, "samples": 20}
    assert said["stored"]["agents"]["n1"]["rows"] == {"hop_10s": 1, "hop_sample": 30}
    assert said["stored"]["path"] is None
    assert said["series"][1]["source"] == {"namespace": "shop", "pod": "", "workload": "client"}
    assert said["trace"]["trace_id"] == TRACE
    assert [hop["kind"] for hop in said["trace"]["hops"]] == ["tx", "rx"]
    assert said["trace"]["hops"][1]["wire"] == {"time_ns": 1410, "error_ns": 0, "sure": True}
    assert said["steps_s"] == {"build the lab": 0.61, "send the requests": 1.24}


def test_problems_of_a_demo_without_any_are_none() -> None:
    assert problems(outcome()) == []


def test_problems_name_requests_that_were_not_found() -> None:
    assert problems(outcome(found=19)) == ["service, w3c: 19 of 20 requests have all their hops"]


def test_problems_of_a_window_that_is_too_small_say_where_the_context_is() -> None:
    short = replace(
        outcome(found=0), window=200, sidecar_offset_bytes=329, sights=(sight("n1", "tx", 20, missed=20),)
    )
    assert problems(short) == [
        "service, w3c: 0 of 20 requests have all their hops",
        "in 20 of 20 hops the 200 bytes searched (--window) hold no context: a sidecar writes it behind all"
        " other headers, here at byte 329",
    ]


@pytest.mark.parametrize(("window", "is_to_blame"), [(397, True), (398, False)])
def test_window_line_blames_the_sidecar_unless_the_whole_field_fits(window: int, is_to_blame: bool) -> None:
    seen = (sight("n1", "tx", 20, missed=1),)
    line = window_line(replace(outcome(), window=window, sidecar_offset_bytes=329, sights=seen))
    assert ("a sidecar writes it" in line) is is_to_blame


def test_problems_name_hops_that_were_not_recorded() -> None:
    assert problems(outcome(missing=3)) == ["n2: 17 of 20 hops were recorded"]


def test_problems_name_counters_that_do_not_add_up() -> None:
    good = outcome()
    n2 = good.accounts["n2"]
    off = replace(n2, imbalances={**n2.imbalances, "first": -1, "sampled": 1})
    assert problems(replace(good, accounts={**good.accounts, "n2": off})) == [
        "n2: first is -1 off its parts",
        "n2: sampled is +1 off its parts",
    ]


def test_problems_name_rows_that_were_dropped_or_are_not_there() -> None:
    good = outcome()
    n2 = good.accounts["n2"]
    dropped = replace(n2, stored=replace(n2.stored, dropped={"event": 2}))
    stored = replace(good.stored, nodes={**good.stored.nodes, "n2": KeptHops(19, 20)})
    assert problems(replace(good, accounts={**good.accounts, "n2": dropped}, stored=stored)) == [
        "n2: the store has 19 of 20 hops",
        "n2: 2 rows of event dropped",
    ]


@pytest.mark.parametrize(
    ("spool", "said"),
    [
        (SpoolFacts(sent={"hop_sample": 20}, waiting={"hop_sample": 0}), []),
        (
            SpoolFacts(waiting={"event": 2, "hop_sample": 20}, error="store s: nobody answers"),
            ["n2: 22 rows wait in its spool: store s: nobody answers"],
        ),
        (SpoolFacts(waiting={"event": 2}), ["n2: 2 rows wait in its spool: the agent ended too soon"]),
        (
            SpoolFacts(rejected={"hop_10s": 1, "event": 2}, too_old={"event": 4}),
            ["n2: 3 rows fell out of its spool: rejected", "n2: 4 rows fell out of its spool: too_old"],
        ),
    ],
)
def test_problems_name_rows_that_a_server_did_not_get(spool: SpoolFacts, said: list[str]) -> None:
    good = outcome()
    n2 = good.accounts["n2"]
    sent = replace(n2, stored=replace(n2.stored, spool=spool))
    assert problems(replace(good, accounts={**good.accounts, "n2": sent})) == said


def test_as_json_of_a_server_has_its_url_and_how_the_spool_ended() -> None:
    good = outcome()
    n2 = good.accounts["n2"]
    sent = replace(n2, stored=replace(n2.stored, spool=SpoolFacts(sent={"event": 2})))
    url = "influxdb1://172.18.0.250:8086/"
    shown = replace(good, store=url, accounts={**good.accounts, "n2": sent})
    said = json.loads(json.dumps(as_json(shown)))["stored"]
    assert said["path"] == url
    assert said["agents"]["n1"]["spool"] is None
    assert said["agents"]["n2"]["spool"]["sent"] == {"event": 2}
