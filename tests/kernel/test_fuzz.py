# SPDX-License-Identifier: Apache-2.0
"""The kernel programs against the model of tests/oracle/, over many builds.

OVERHOP_FUZZ_SEED and OVERHOP_FUZZ_PACKETS choose the packets; by hand: python -m tests.oracle --help.
"""

import os
from contextlib import closing
from pathlib import Path
from random import SystemRandom

import pytest

from agent.loader import load
from bpf.spec import ProgramSpec
from tests.oracle.campaign import Share, run_share
from tests.oracle.cases import Case, cases
from tests.oracle.generate import Generator
from tests.oracle.harness import MAX_TEST_RUN_BYTES, Mismatch, ProgRuns, Rig, fresh_namespace

SEED = int(os.environ.get("OVERHOP_FUZZ_SEED") or SystemRandom().getrandbits(32))
PACKETS = int(os.environ.get("OVERHOP_FUZZ_PACKETS") or 200_000)
CASES = cases()
WITH_TRUNCATIONS = ("window 1500", "loads")
CUT_EVERY = 5
CUT_PACKETS = 18_000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_programs_agree_with_the_model(case: Case, tmp_path: Path) -> None:
    print(f"seed {SEED}: set OVERHOP_FUZZ_SEED={SEED} to repeat")
    outcome = run_share(Share(case, SEED, 0, PACKETS // len(CASES)), tmp_path)
    assert outcome.problem is None, outcome.problem
    assert outcome.records or "filter" in case.name


@pytest.mark.parametrize("name", WITH_TRUNCATIONS)
def test_programs_agree_on_truncated_packets(name: str, tmp_path: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    outcome = run_share(Share(case, SEED, 0, CUT_PACKETS, CUT_EVERY), tmp_path)
    assert outcome.problem is None, outcome.problem


WRONG = (
    (ProgramSpec(window=1500), ProgramSpec(window=1499)),
    (ProgramSpec(), ProgramSpec(vxlan_ports=(4789, 4790))),
    (ProgramSpec(), ProgramSpec(contexts=frozenset({"w3c", "b3-single"}))),
)


@pytest.mark.parametrize(("loaded_spec", "model_spec"), WRONG, ids=["window", "port", "contexts"])
def test_rig_program_of_another_spec_is_reported(loaded_spec: ProgramSpec, model_spec: ProgramSpec) -> None:
    generator = Generator(7, loaded_spec, MAX_TEST_RUN_BYTES)
    with (
        fresh_namespace(),
        load(loaded_spec) as loaded,
        closing(Rig(Case("wrong", model_spec), loaded, ProgRuns(loaded))) as rig,
        pytest.raises(Mismatch, match=r"(?s)expected .*bytes: [0-9a-f]{28}"),
    ):
        check_batches(rig, generator, 80)


def check_batches(rig: Rig, generator: Generator, batches: int) -> None:
    for number in range(batches):
        rig.check(rig.carried(generator.batch(number, 256)))
