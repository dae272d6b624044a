# SPDX-License-Identifier: Apache-2.0
"""Kernel program against model: python -m tests.oracle --packets 10000000 --seed N --processes 2."""

import argparse
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from random import SystemRandom

from tests.oracle.campaign import BATCH_STEPS, Outcome, Share, run_share
from tests.oracle.cases import cases

SHARE_PACKETS = 250_000
WITH_TRUNCATIONS = ("window 1500", "loads")
"""Their first share begins with all truncated packets, nearly 100,000."""


def main() -> int:
    """Exit code 0: kernel and model agree; 1: mismatches were printed; 2: usage."""
    options = _options()
    shares = _shares(options)
    if not shares:
        print(
            f"no case has {options.case!r} in its name: {', '.join(case.name for case in cases())}",
            file=sys.stderr,
        )
        return 2
    print(f"seed {options.seed}: {options.packets} packets in {len(shares)} shares", flush=True)
    begin_s = time.monotonic()
    outcomes = []
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(run_share, share, Path(tempfile.gettempdir())) for share in shares]
        for finished in as_completed(running):
            outcomes.append(finished.result())
            _tell(outcomes, len(shares), time.monotonic() - begin_s)
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--packets", type=int, default=1_000_000, help="over all cases (default 1000000)")
    parser.add_argument("--seed", type=int, default=SystemRandom().getrandbits(32), help="default: a new one")
    parser.add_argument("--processes", type=int, default=1, help="default 1")
    parser.add_argument("--case", default="", help="only cases with this in their name")
    return parser.parse_args()


def _shares(options: argparse.Namespace) -> list[Share]:
    """Shares of at most SHARE_PACKETS, one case after the other and round again."""
    chosen = [case for case in cases() if options.case in case.name]
    shares: list[Share] = []
    left = options.packets
    while chosen and left > 0:
        for case in chosen:
            packets = min(left, SHARE_PACKETS, options.packets // len(chosen) + 1)
            cut_every = 1 if case.name in WITH_TRUNCATIONS and len(shares) < len(chosen) else 0
            first_batch = len(shares) * 2 * SHARE_PACKETS // BATCH_STEPS
            shares.append(Share(case, options.seed, first_batch, packets, cut_every))
            left -= packets
            if left <= 0:
                break
    return shares


def _tell(outcomes: list[Outcome], shares: int, seconds: float) -> None:
    """One line of progress on the last outcome, and what went wrong."""
    outcome = outcomes[-1]
    total = sum(one.packets for one in outcomes)
    state = "MISMATCH" if outcome.problem else "agrees"
    print(
        f"[{len(outcomes)}/{shares}] {outcome.share.case.name}: {state}, {outcome.packets} packets, "
        f"{outcome.records} records, {outcome.packets / outcome.seconds:.0f} packets/s; "
        f"in all {total} packets, {total / seconds:.0f} packets/s",
        flush=True,
    )
    if outcome.problem:
        print(outcome.problem, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
