# SPDX-License-Identifier: Apache-2.0
"""The scenarios of tests/accept/hardiness.py, in short."""

from collections.abc import Iterator

import pytest

from tests.accept.bad_input import bad_input
from tests.accept.churn import churn
from tests.accept.lifecycle import Stage, lifecycle, stage
from tests.accept.midway import interface_gone, overrun
from tests.accept.replan import replan
from tests.require import require_commands

RATE_HZ = 200.0


@pytest.fixture(scope="module")
def place() -> Iterator[Stage]:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool", "tc")
    with stage() as made:
        yield made


@pytest.mark.parametrize("mode", ["tcx", "clsact"])
def test_agent_killed_restarted_and_terminated_fails_no_request_and_leaves_nothing(
    place: Stage, mode: str
) -> None:
    assert lifecycle(place, mode, RATE_HZ).problems == []


def test_agent_that_pods_come_and_go_under_traces_each_and_keeps_nothing(place: Stage) -> None:
    assert churn(place, 10, RATE_HZ).problems == []


def test_agent_whose_plan_changes_exchanges_programs_and_fails_no_request(place: Stage) -> None:
    assert replan(place, "tcx", RATE_HZ).problems == []


def test_agent_with_bad_input_says_each_problem_in_one_line(place: Stage) -> None:
    assert bad_input(place, quick=True).problems == []


def test_agent_whose_nic_goes_and_comes_back_goes_on(place: Stage) -> None:
    assert interface_gone(place, RATE_HZ).problems == []


def test_agent_whose_ring_runs_over_counts_every_lost_record(place: Stage) -> None:
    assert overrun(place).problems == []
