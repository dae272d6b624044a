# SPDX-License-Identifier: Apache-2.0
"""A fuzz campaign: cases, shares of packets, seeds; each share runs in a namespace of its own."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
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
    cut_every: int = 0
    """Begin with every n-th of the envelopes cut at every length; 0: with none."""


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
            if packets >= share.packets:
                break
    return Outcome(share, packets, records, time.monotonic() - begin_s, problem)


def _batches(share: Share) -> Iterator[tuple[int, list[Step]]]:
    """Batch numbers (negative: truncations) and their steps, without end."""
    if share.cut_every:
        cut = islice(truncations(), share.seed % share.cut_every, None, share.cut_every)
        for number in count(-1, -1):
            steps = list(islice(cut, BATCH_STEPS))
            if not steps:
                break
            yield number, steps
    generator = Generator(share.seed, share.case.spec, MAX_TEST_RUN_BYTES)
    for number in count(share.first_batch):
        yield number, generator.batch(number, BATCH_STEPS)
