# SPDX-License-Identifier: Apache-2.0
"""What ends `overhop agent`, in a process of its own."""

import subprocess
import sys

import pytest

ASKED = """
import signal, sys
from overhop.commands.agent import _Stop

number = signal.Signals[sys.argv[1]]
if len(sys.argv) > 2:
    signal.signal(number, signal.SIG_IGN)
stop = _Stop(None)
signal.raise_signal(number)
print(stop())
"""


def asked(*arguments: str) -> str:
    argv = [sys.executable, "-c", ASKED, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_stop_hears_what_ends_a_service_or_its_terminal(name: str) -> None:
    assert asked(name) == "True\n"


def test_stop_under_nohup_outlives_the_terminal() -> None:
    assert asked("SIGHUP", "ignored") == "False\n"
