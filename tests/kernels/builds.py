# SPDX-License-Identifier: Apache-2.0
"""The builds of the kernel program that every kernel is shown."""

import itertools
from dataclasses import dataclass

from bpf.spec import CONTEXT_BITS, ProgramSpec
from tests.oracle.cases import cases

WINDOWS = (64, 1500, 4096, 8192)
EXCHANGES = 10
"""Packets each way past every attachment."""
BUDGET_INSNS = 600_000
"""Of the verifier, for any program at window 8192 on any kernel."""
FUZZ_CASES = ("window 1500", "window 8192", "loads")
"""Cases of tests/oracle that are fuzzed on each kernel."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What one build is compiled with."""

    name: str
    spec: ProgramSpec
    extra_defines: tuple[str, ...] = ()


def builds() -> list[BuildOptions]:
    """Windows, FILTER, FORCE_LOAD_BYTES, every set of contexts but all, and what the fuzz runs."""
    some_contexts = (
        frozenset(some)
        for count in range(len(CONTEXT_BITS))
        for some in itertools.combinations(CONTEXT_BITS, count)
    )
    return [
        *(BuildOptions(f"window {window}", ProgramSpec(window=window)) for window in WINDOWS),
        *(
            BuildOptions(f"window {window}, filter", ProgramSpec(window=window, filter=True))
            for window in (4096, 8192)
        ),
        *(
            BuildOptions(f"window {window}, loads", ProgramSpec(window=window), ("-DFORCE_LOAD_BYTES",))
            for window in (4096, 8192)
        ),
        *(
            BuildOptions(
                f"window 8192, {'+'.join(sorted(some)) or 'no'} contexts",
                ProgramSpec(window=8192, contexts=some),
            )
            for some in some_contexts
        ),
        *(
            BuildOptions(f"fuzz {case.name}", case.spec, case.extra_defines)
            for case in cases()
            if case.name in FUZZ_CASES
        ),
    ]
