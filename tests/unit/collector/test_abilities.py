# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import pytest

from collector.node.abilities import (
    capabilities_of,
    first_with_bcc,
    is_jit_on,
    is_realtime,
    lockdown_of,
    version_of,
)


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("release", "expected"), [("6.1.0-28-amd64", (6, 1)), ("6.18.44", (6, 18)), ("5.4-custom", (5, 4))]
)
def test_version_of_release_is_two_numbers(release: str, expected: tuple[int, int]) -> None:
    assert version_of(release) == expected


def test_version_of_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel release 'six' does not begin with two numbers"):
        version_of("six")


def test_is_realtime_flag_file_or_build_line_counts(tmp_path: Path) -> None:
    assert not is_realtime("#1 SMP PREEMPT_DYNAMIC", tmp_path)
    assert is_realtime("#1 SMP PREEMPT_RT Debian", tmp_path)
    put(tmp_path, "sys/kernel/realtime", "1\n")
    assert is_realtime("#1 SMP", tmp_path)


@pytest.mark.parametrize(("value", "expected"), [("0\n", False), ("1\n", True), ("2\n", True)])
def test_is_jit_on_reads_the_sysctl(tmp_path: Path, value: str, expected: bool) -> None:
    put(tmp_path, "proc/sys/net/core/bpf_jit_enable", value)
    assert is_jit_on(tmp_path) is expected


def test_is_jit_on_unreadable_is_unknown(tmp_path: Path) -> None:
    assert is_jit_on(tmp_path) is None


def test_lockdown_of_takes_the_word_in_brackets(tmp_path: Path) -> None:
    assert lockdown_of(tmp_path) is None
    put(tmp_path, "sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    assert lockdown_of(tmp_path) == "integrity"


def test_capabilities_of_status_names_the_effective_ones() -> None:
    assert capabilities_of("CapPrm:\tffff\nCapEff:\t0000008000001000\n") == {"CAP_NET_ADMIN", "CAP_BPF"}
    assert capabilities_of("CapEff:\t0000000000000000\n") == frozenset()


def test_first_with_bcc_python_without_it_or_missing_is_none() -> None:
    assert first_with_bcc([sys.executable, "/nonexistent/python3"]) is None
