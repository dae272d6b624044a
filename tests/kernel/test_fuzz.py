# SPDX-License-Identifier: Apache-2.0
"""The kernel programs against the model of tests/oracle/, over many builds.

OVERHOP_FUZZ_SEED and OVERHOP_FUZZ_PACKETS choose the packets; by hand: python -m tests.oracle --help.
"""

import os
from contextlib import closing
from pathlib import Path
from random import SystemRandom

import pytest

from agent.loading.loader import load
from bpf.spec import ProgramSpec
from tests.oracle.campaign import Share, run_share
from tests.oracle.cases import Case, cases
from tests.oracle.generate import Generator
from tests.oracle.harness import MAX_TEST_RUN_BYTES, Mismatch, ProgRuns, Rig, fresh_namespace

SEED = int(os.environ.get("OVERHOP_FUZZ_SEED") or SystemRandom().getrandbits(32))
PACKETS = int(os.environ.get("OVERHOP_FUZZ_PACKETS") or 200_000)
CASES = cases()
CUT_EVERY = {"window 1500": 5, "loads": 5}
"""Builds that also get every fifth of the truncated packets (which ones depends on the seed)."""
CUT_PACKETS = 16_000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_programs_agree_with_the_model(case: Case, tmp_path: Path) -> None:
    print(f"seed {SEED}: set OVERHOP_FUZZ_SEED={SEED} to repeat")
    cut_every = CUT_EVERY.get(case.name, 0)
    packets = PACKETS // len(CASES) + (CUT_PACKETS if cut_every else 0)
    outcome = run_share(Share(case, SEED, 0, packets, cut_every), tmp_path)
    assert outcome.problem is None, outcome.problem
    assert outcome.packets >= packets
    assert outcome.records


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
