# SPDX-License-Identifier: Apache-2.0
"""A fuzz campaign: cases, shares of packets, seeds; each share runs in a namespace of its own."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from scapy.packet import Raw
from scapy.utils import wrpcap

from tests.oracle.cases import Case
from tests.oracle.expect import Step
from tests.oracle.generate import Generator, truncations
from tests.oracle.harness import MAX_TEST_RUN_BYTES, Mismatch, fresh_namespace, rig

BATCH_STEPS = 256


@dataclass(frozen=True, slots=True)
class Share:
    """Some batches of one case: the same share always runs the same packets."""

    case: Case
    seed: int
    first_batch: int
    packets: int
    has_truncations: bool = False
    """Begin with every envelope cut at every length."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a share."""

    share: Share
    packets: int
    records: int
    seconds: float
    problem: str | None


def run_share(share: Share, pcap_directory: Path) -> Outcome:
    """Run a share up to its first mismatch; that one's batch is saved as a pcap."""
    begin_s = time.monotonic()
    packets = records = 0
    problem = None
    with fresh_namespace(), rig(share.case) as under_test:
        for number, drawn in _batches(share):
            steps = under_test.carried(drawn)
            try:
                records += under_test.check(steps)
            except Mismatch as mismatch:
                pcap = pcap_directory / f"overhop-fuzz-{share.seed}-{share.case.name.replace(' ', '-')}.pcap"
                wrpcap(str(pcap), [Raw(step.packet) for step in steps], linktype=1)
                problem = f"seed {share.seed} batch {number} (saved as {pcap}): {mismatch}"
                break
            packets += len(steps)
    return Outcome(share, packets, records, time.monotonic() - begin_s, problem)


def _batches(share: Share) -> Iterator[tuple[int, list[Step]]]:
    """Batch numbers (-1: truncations) and their steps."""
    left = share.packets
    cut = truncations() if share.has_truncations else iter(())
    while left > 0 and (steps := list(islice(cut, BATCH_STEPS))):
        yield -1, steps
        left -= len(steps)
    generator = Generator(share.seed, share.case.spec, MAX_TEST_RUN_BYTES)
    number = share.first_batch
    while left > 0:
        steps = generator.batch(number, min(BATCH_STEPS, left))
        yield number, steps
        left, number = left - len(steps), number + 1
