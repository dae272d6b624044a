# SPDX-License-Identifier: Apache-2.0
"""The verifier's budget (design §14) holds for every set of context kinds: clang's block order moves it."""

from itertools import combinations

import pytest

from agent.loading.loader import load
from bpf.spec import CONTEXT_BITS, ProgramSpec
from tests.require import require_root

BUDGET_INSNS = 600_000
SETS = [frozenset(kinds) for count in range(4) for kinds in combinations(CONTEXT_BITS, count)]


@pytest.mark.parametrize("contexts", SETS, ids=lambda kinds: "+".join(sorted(kinds)) or "none")
def test_verifier_at_the_largest_window_stays_below_its_budget(contexts: frozenset[str]) -> None:
    require_root()
    with load(ProgramSpec(window=8192, contexts=contexts, filter=True)) as loaded:
        assert max(loaded.verified_insns.values()) < BUDGET_INSNS
