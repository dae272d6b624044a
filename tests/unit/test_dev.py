# SPDX-License-Identifier: Apache-2.0
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def dev(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "dev", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd="/"
    )


def test_dev_help_lists_the_commands_on_standard_output() -> None:
    done = dev("help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ./dev COMMAND [ARGS]\n")


def test_dev_unknown_command_is_code_2_and_quiet_on_standard_output() -> None:
    done = dev("tset")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("./dev: unknown command: tset\n")


@pytest.mark.parametrize("command", ["bench", "accept"])
def test_dev_unknown_name_is_code_2_before_anything_is_installed(command: str) -> None:
    done = dev(command, "no-such-name")
    assert done.returncode == 2
    assert done.stderr.startswith(f"./dev: {command}: no such one: no-such-name")


def test_dev_run_from_another_directory_is_this_checkout() -> None:
    done = dev("run", "--version")
    assert (done.returncode, done.stdout) == (0, "overhop 0.1.0\n")


def test_dev_run_imports_nothing_from_the_current_directory(tmp_path: Path) -> None:
    for module in ("yaml", "numpy", "store", "overhop"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit('imported from the current directory')\n")
    done = subprocess.run(
        [ROOT / "dev", "run", "config", "check", "/dev/null"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
