# SPDX-License-Identifier: Apache-2.0
"""What the agent learns of its node while it runs."""

import select
from collections.abc import Iterator
from contextlib import closing

import pytest

from agent.datapath import Datapath
from agent.following import Following
from agent.hops.intake import Intake
from agent.loading.loader import load
from agent.naming.names import COLUMNS
from agent.network.links import LinkWatch
from agent.plan.model import Plan
from agent.storing.chronicle import Chronicle
from bpf.record import Kind
from bpf.spec import ProgramSpec
from overhop.lab.netns import Netns
from tests.kernel.wire import Wire
from tests.unit.agent.made_records import made

_SOURCE = COLUMNS.index("src_workload")


@pytest.fixture
def intake() -> Intake:
    return Intake()


@pytest.fixture
def following(wire: Wire, intake: Intake) -> Iterator[Following]:
    """Follows the test's namespace, and has nothing left to do."""
    with LinkWatch() as watch, closing(Datapath(ProgramSpec(), lambda: load(ProgramSpec()))) as datapath:
        found = Following(watch, datapath, Chronicle(), intake)
        plan = Plan(nic=(wire.link.name,), vports=())
        found.use(plan, plan)
        while not found.is_settled:
            found.step(lambda: True, is_start=True)
        yield found


def source(intake: Intake, address: str) -> str:
    """Whose a request is that comes in from `address`."""
    return intake.namer.rows(made(Kind.RX, src=address))[0][_SOURCE]


def test_following_names_an_address_that_comes_without_a_change_of_links(
    following: Following, intake: Intake, netns: Netns
) -> None:
    assert source(intake, "10.9.0.1") == "unknown"
    netns.ip(["addr add 10.9.0.1/24 dev v0"])
    assert select.select([following], [], [], 5.0)[0], "nothing to hear"
    following.hear()
    while not following.is_settled:
        following.step(lambda: True, is_start=False)
    assert source(intake, "10.9.0.1") == "host"
