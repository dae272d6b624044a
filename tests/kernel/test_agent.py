# SPDX-License-Identifier: Apache-2.0
"""The agent's loop in this process, in a namespace of its own."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.runtime import Agent, AgentConfig
from bpf import syscall
from bpf.record import WAY, WAY_LOCKED, WAYS
from tests.kernel.wire import Wire


@pytest.fixture
def agent(wire: Wire) -> Iterator[Agent]:
    with Agent(AgentConfig(nic=wire.link.name)) as made:
        yield made


def lock_a_way() -> None:
    """As a CPU that stands still in the middle leaves it."""
    value = WAY_LOCKED.to_bytes(8, "little") + bytes(WAY.itemsize * WAYS - 8)
    syscall.map_update(slots_fd(), (7).to_bytes(4, "little"), value)


def slots_fd() -> int:
    """The table of slots that this process has."""
    own = {entry.name: os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}
    maps = [int(name) for name, what in own.items() if what == "anon_inode:bpf-map"]
    return next(fd for fd in maps if syscall.map_info(fd).name == "oh_slots")


def test_agent_slots_that_stay_locked_do_not_end_it(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert agent.counters()["waiting"] == 0
    lock_a_way()
    assert agent.counters()["waiting"] == 0
    assert agent.facts().counters["waiting"] == 0
    assert {record.message for record in caplog.records} == {"cannot count the stamps that wait"}


def test_agent_whose_metrics_nobody_can_reach_traces_on(wire: Wire, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with Agent(AgentConfig(nic=wire.link.name, metrics=("192.0.2.1", 9469))) as agent:
        assert len(agent.datapath.hooks) == 2
    [said] = caplog.records
    assert said.message == "no metrics"
    assert "192.0.2.1" in said.__dict__["reason"]
