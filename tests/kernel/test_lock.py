# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from agent.lock import AgentLock, AlreadyRunning, holder_pid
from overhop.lab.netns import Netns
from tests.kernel.leaks import wait_until

pytestmark = pytest.mark.usefixtures("no_leaks")

HOLDER = "from agent.lock import AgentLock\nlock = AgentLock()\nprint('held', flush=True)\ninput()\n"


def holder(netns: Netns) -> subprocess.Popen[bytes]:
    """A process that holds the lock of a namespace until it is killed."""
    process = netns.popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


def test_lock_second_holder_is_refused_with_the_pid_of_the_first(netns: Netns) -> None:
    with holder(netns) as process:
        with pytest.raises(
            AlreadyRunning, match=rf"already running \(pid {process.pid}\): stop it"
        ) as caught:
            AgentLock()
        process.kill()
    assert caught.value.pid == process.pid


def test_lock_of_the_same_process_is_refused_too(netns: Netns) -> None:
    with AgentLock(), pytest.raises(AlreadyRunning, match=rf"pid {os.getpid()}"):
        AgentLock()


def test_lock_after_kill_of_the_holder_is_free(netns: Netns) -> None:
    with holder(netns) as process:
        process.kill()
        process.wait()
    with AgentLock():
        assert holder_pid() == os.getpid()


def test_close_twice_is_fine(netns: Netns) -> None:
    lock = AgentLock()
    lock.close()
    lock.close()


def test_lock_after_close_is_free(netns: Netns) -> None:
    AgentLock().close()
    assert holder_pid() is None
    with AgentLock():
        assert holder_pid() == os.getpid()


def test_lock_of_another_namespace_is_independent(netns: Netns, new_netns: Callable[[], Netns]) -> None:
    with holder(new_netns()) as process, AgentLock():
        process.kill()


def test_lock_refuses_many_times_with_the_pid(netns: Netns) -> None:
    with holder(netns) as process:
        for _ in range(500):
            wait_until(lambda: holder_pid() == process.pid, "the holder's pid is told")
        process.kill()
