# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the kernel tests: a private network namespace, a wire into another one, the leak check."""

import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from overhop.lab.netns import Netns, create, delete, end_processes
from tests.kernel.counting import Counting
from tests.kernel.leaks import Kernel
from tests.kernel.wire import Wire, stretched


@pytest.fixture
def new_netns() -> Iterator[Callable[[], Netns]]:
    """Makes network namespaces, which are removed with everything in them when the test ends."""
    made: list[Netns] = []

    def make() -> Netns:
        made.extend(create([f"oht-{os.getpid()}-{secrets.token_hex(3)}"]))
        return made[-1]

    yield make
    end_processes(made)
    delete(made)


@pytest.fixture
def netns(new_netns: Callable[[], Netns]) -> Iterator[Netns]:
    """A fresh network namespace, which the test is inside of."""
    namespace = new_netns()
    with namespace.entered():
        yield namespace


@pytest.fixture
def wire(netns: Netns, new_netns: Callable[[], Netns]) -> Iterator[Wire]:
    """A veth pair from the test's namespace into another one, on which only the test's packets pass."""
    with stretched(netns, new_netns()) as made:
        yield made


@pytest.fixture(scope="session")
def loaded_counting() -> Iterator[Counting]:
    """Loaded once, because compiling takes longer than the tests."""
    programs = Counting()
    with programs.loaded:
        yield programs


@pytest.fixture(scope="session")
def loaded_foreign() -> Iterator[Counting]:
    """The same with another verdict."""
    programs = Counting("-DVERDICT=TC_ACT_OK")
    with programs.loaded:
        yield programs


@pytest.fixture
def counting(loaded_counting: Counting) -> Counting:
    """Counting programs that return TC_ACT_UNSPEC, as ours do; counts begin at 0."""
    loaded_counting.reset()
    return loaded_counting


@pytest.fixture
def foreign(loaded_foreign: Counting) -> Counting:
    """Counting programs that return TC_ACT_OK and so end the chain, as those of other tools do."""
    loaded_foreign.reset()
    return loaded_foreign


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fails a test that leaves a descriptor of its own or a program or link that no process holds.

    Programs and links of processes that run beside the tests are left out; a map without a descriptor lives
    only with its program. The kernel frees with a delay, so there is a deadline.
    """
    before = Kernel.now()
    yield
    before.await_clean(10.0)
