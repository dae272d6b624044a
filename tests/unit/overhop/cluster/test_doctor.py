# SPDX-License-Identifier: Apache-2.0
from overhop.cluster.doctor import ClusterFinding, blind, rows, together

OK = {"verdict": "ok", "subject": "kernel", "fact": "6.12", "advice": ""}
WARN = {"verdict": "warn", "subject": "web", "fact": "TLS", "advice": "look"}
FAIL = {"verdict": "fail", "subject": "BTF", "fact": "missing", "advice": "another kernel"}
NODES = {"n1": [OK, WARN], "n2": [OK, WARN], "n3": [OK, FAIL], "n4": None}


def test_same_finding_of_several_nodes_is_told_once_the_worst_first() -> None:
    found = together(NODES)
    assert [(each.verdict, each.subject, each.nodes) for each in found] == [
        ("fail", "BTF", ("n3",)),
        ("fail", "agent", ("n4",)),
        ("warn", "web", ("n1", "n2")),
        ("ok", "kernel", ("n1", "n2", "n3")),
    ]


def test_nodes_that_fail_or_say_nothing_are_blind() -> None:
    assert blind(NODES) == ["n3", "n4"]


def test_rows_leave_out_what_is_good_and_shorten_many_nodes() -> None:
    many = tuple(f"n{each}" for each in range(9))
    found = [
        ClusterFinding("warn", "web", "TLS", "look", many),
        ClusterFinding("ok", "kernel", "6.12", "", many),
    ]
    assert list(rows(found, 20)) == [("warn", "n0, n1, n2 and 6 more", "web", "TLS", "look")]
    assert next(rows(found, 9))[1] == "all 9"
