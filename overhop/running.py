# SPDX-License-Identifier: Apache-2.0
"""The agent that runs in this network namespace, as seen from another process."""

from agent.lock import holder_pid
from overhop.doctor import RunningAgent


def find_running_agent() -> RunningAgent | None:
    """The holder of the lock; None if nobody holds it."""
    pid = holder_pid()
    return RunningAgent(pid) if pid else None
