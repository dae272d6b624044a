# SPDX-License-Identifier: Apache-2.0
"""Programs that are loaded in a thread."""

import os
from collections.abc import Callable
from threading import Event

import pytest

from agent.loading.background import Loading
from agent.loading.loader import CompileError, Loaded, LoadStopped


def loaded() -> Loaded:
    """One descriptor of our own stands for everything."""
    return Loaded({"oh_nic_in": os.open("/dev/null", os.O_RDONLY)}, {}, {}, 0.0, 0.0)


def test_done_is_false_until_the_load_ends() -> None:
    go_on = Event()

    def slowly(_: Callable[[], bool]) -> Loaded:
        go_on.wait(10)
        return loaded()

    loading = Loading(slowly)
    assert not loading.done
    go_on.set()
    with loading.result() as found:
        assert list(found.programs) == ["oh_nic_in"]
    assert loading.done


def test_result_of_a_failed_load_raises_its_error() -> None:
    def refuse(_: Callable[[], bool]) -> Loaded:
        raise CompileError("compile hop.bpf.c: no")

    with pytest.raises(CompileError, match=r"^compile hop\.bpf\.c: no$"):
        Loading(refuse).result()


def test_discard_closes_the_descriptors() -> None:
    found = loaded()
    descriptor = found.programs["oh_nic_in"]
    Loading(lambda _: found).discard()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_discard_asks_the_load_to_stop_and_frees_nothing_twice() -> None:
    asked = Event()

    def until_asked(stop: Callable[[], bool]) -> Loaded:
        while not stop():
            asked.wait(0.001)
        asked.set()
        raise LoadStopped("load: stopped")

    Loading(until_asked).discard()
    assert asked.is_set()
