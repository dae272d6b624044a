# SPDX-License-Identifier: Apache-2.0
import pytest

from agent.capabilities import lacking


@pytest.mark.parametrize(
    ("effective", "expected"),
    [
        ("0000000000000000", ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN")),
        ("000000c000001000", ()),
        ("0000008000001000", ("CAP_PERFMON",)),
        ("0000004000001000", ("CAP_BPF",)),
        ("000000c000000000", ("CAP_NET_ADMIN",)),
        ("0000000000200000", ("CAP_NET_ADMIN",)),
        ("000001ffffffffff", ()),
    ],
)
def test_lacking_reads_the_effective_set(effective: str, expected: tuple[str, ...]) -> None:
    status = f"Name:\tagent\nCapInh:\t000001ffffffffff\nCapEff:\t{effective}\nCapBnd:\t000001ffffffffff\n"
    assert lacking(status) == expected
