# SPDX-License-Identifier: Apache-2.0
"""The kernel programs against the model of tests/oracle/, over many builds.

OVERHOP_FUZZ_SEED and OVERHOP_FUZZ_PACKETS choose the packets; by hand: python -m tests.oracle --help.
"""

import os
from pathlib import Path
from random import SystemRandom

import pytest

from tests.oracle.campaign import Share, run_share
from tests.oracle.cases import Case, cases

SEED = int(os.environ.get("OVERHOP_FUZZ_SEED") or SystemRandom().getrandbits(32))
PACKETS = int(os.environ.get("OVERHOP_FUZZ_PACKETS") or 200_000)
CASES = cases()
WITH_TRUNCATIONS = ("window 1500", "loads")
TRUNCATION_PACKETS = 30_000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_programs_agree_with_the_model(case: Case, tmp_path: Path) -> None:
    print(f"seed {SEED}: set OVERHOP_FUZZ_SEED={SEED} to repeat")
    outcome = run_share(Share(case, SEED, 0, PACKETS // len(CASES)), tmp_path)
    assert outcome.problem is None, outcome.problem
    assert outcome.records or "filter" in case.name


@pytest.mark.parametrize("name", WITH_TRUNCATIONS)
def test_programs_agree_on_truncated_packets(name: str, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    outcome = run_share(Share(case, SEED, 0, TRUNCATION_PACKETS, has_truncations=True), tmp_path)
    assert outcome.problem is None, outcome.problem
