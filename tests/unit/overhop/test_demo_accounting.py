# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

from overhop.demo.accounting import identity_lines, lines_of, output_lines, recorded_line
from overhop.demo.stored import KeptHops
from tests.unit.demo_records import account, outcome


def test_identity_lines_off_say_so_and_count_swapped_as_waiting() -> None:
    off = account(15, first=20, taken=15, waiting=1, swapped=2, second=15)
    off = replace(off, imbalances={**off.imbalances, "first": 2})
    assert identity_lines(off)[0] == ("first 20 = taken 15 + waiting 3", "does NOT add up: +2")


def test_identity_lines_of_no_traffic_are_zero() -> None:
    assert identity_lines(account(0))[1] == ("second 0 = 0", "adds up")


def test_output_lines_name_what_was_retransmitted_or_not_kept() -> None:
    said = account(20)
    said = replace(
        said, stored=replace(said.stored, hops=18, retransmitted=2, samples=5, samples_not_kept=15)
    )
    assert output_lines(said, KeptHops(20, 5)) == [
        ("records 20 = hops 18 + retransmitted 2", "adds up"),
        ("records 20 = samples 5 + not_kept 15", "adds up"),
        ("read back: 20 hops, 5 samples", "all of them"),
    ]


def test_output_lines_of_a_store_that_gives_back_less_say_so() -> None:
    assert output_lines(account(20), KeptHops(20, 19))[2] == (
        "read back: 20 hops, 19 samples",
        "NOT what was stored",
    )


def test_lines_of_two_nodes_name_each_once() -> None:
    assert [node for node, _, _ in lines_of(outcome())] == [
        "n1",
        "",
        "",
        "",
        "",
        "",
        "n2",
        "",
        "",
        "",
        "",
        "",
    ]


def test_recorded_line_has_both_nodes() -> None:
    assert recorded_line(outcome()) == "50 hops recorded (n1 30, n2 20), 50 expected"
