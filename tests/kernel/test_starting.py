# SPDX-License-Identifier: Apache-2.0
"""What an agent does before it imports the rest."""

import subprocess
import sys

import pytest

from agent.loading.cache import DIRECTORY_VARIABLE
from agent.loading.loader import LoadStopped
from agent.lock import AlreadyRunning
from agent.starting import Start
from tests.kernel.wire import Wire

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_start_imports_neither_numpy_nor_the_store() -> None:
    text = "import agent.starting, sys; print({'numpy', 'store', 'prometheus_client'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_start_gives_the_programs_of_its_plan(wire: Wire) -> None:
    with Start(None, wire.link.name) as start, start.programs() as loaded:
        assert start.plan.nic == (wire.link.name,)
        assert sorted(loaded.programs) == ["oh_nic_in", "oh_nic_out", "oh_vport_in", "oh_vport_out"]


def test_start_that_is_closed_while_it_compiles_lets_the_next_one_in(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DIRECTORY_VARIABLE, "")
    with Start(None, wire.link.name), pytest.raises(AlreadyRunning):
        Start(None, wire.link.name)
    with Start(None, wire.link.name, stop=lambda: True) as start, pytest.raises(LoadStopped):
        start.programs()
