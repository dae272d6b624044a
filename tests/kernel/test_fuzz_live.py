# SPDX-License-Identifier: Apache-2.0
"""The kernel programs against the model on live, non-linear packets, some longer than a test run takes."""

from itertools import islice

import pytest

from bpf.record import Point
from bpf.spec import ProgramSpec
from tests.kernel.test_fuzz import SEED
from tests.oracle.cases import Case
from tests.oracle.envelopes import Flow
from tests.oracle.expect import Step
from tests.oracle.generate import ADDRESSES, Generator, corpus, truncations
from tests.oracle.harness import fresh_namespace, live_rig
from tests.oracle.taps import MAX_BYTES, TUN
from tests.require import require

CASES = (
    Case("live 8192", ProgramSpec(window=8192)),
    Case("live 1500", ProgramSpec(window=1500, sets=64)),
    Case("live loads", ProgramSpec(window=4096), extra_defines=("-DFORCE_LOAD_BYTES",)),
)
BATCHES = 10
FIELD = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"


@pytest.fixture(autouse=True)
def _tun_device() -> None:
    require(TUN.exists(), f"{TUN}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_programs_agree_with_the_model_on_live_packets(case: Case) -> None:
    print(f"seed {SEED}: set OVERHOP_FUZZ_SEED={SEED} to repeat")
    generator = Generator(SEED, case.spec, MAX_BYTES, has_gso=False)
    with fresh_namespace(), live_rig(case) as rig:
        records = sum(rig.check(rig.carried(generator.batch(number, 100))) for number in range(BATCHES))
    assert records > BATCHES


def test_programs_agree_on_live_contexts_around_the_largest_window() -> None:
    steps = []
    for number in range(-4, 5):
        payload = _request_with_field_ending_at(8192 + number)
        flow = Flow(ADDRESSES[0], ADDRESSES[1], 40000, 80, number & 0xFFFF, 7)
        outer = bytes(corpus().tunnel_v4[0][0].fill(flow, payload))
        inner = bytes(corpus().plain_v4[0].fill(flow, payload))
        steps += [Step(Point.NIC_IN, outer), Step(Point.VPORT_OUT, inner)]
    with fresh_namespace(), live_rig(CASES[0]) as rig:
        assert rig.check(steps) == 9


def test_programs_agree_on_live_truncated_packets() -> None:
    with fresh_namespace(), live_rig(CASES[1]) as rig:
        cut = islice(truncations(), SEED % 25, None, 25)
        while steps := list(islice(cut, 250)):
            rig.check(rig.carried(steps))


def _request_with_field_ending_at(offset: int) -> bytes:
    """A request whose traceparent's CR is at `offset` of the payload."""
    start = b"GET / HTTP/1.1\r\nCookie: "
    filling = offset - len(start) - 2 - (len(FIELD) - 2)
    return start + b"c" * filling + b"\r\n" + FIELD + b"Host: a\r\n\r\n"
