# SPDX-License-Identifier: Apache-2.0
import subprocess
from pathlib import Path

import pytest

from tests.require import require_commands

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


@pytest.mark.parametrize("arguments", [(), ("biuld",), ("verify",)])
def test_dev_sidecar_other_than_build_is_code_2(arguments: tuple[str, ...]) -> None:
    done = dev("sidecar", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "./dev: sidecar: which one? There is: build\n"


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


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    """A directory with an `apt-get` that downloads a package of two programs, and notes what is `asked`."""
    require_commands("dpkg-deb")
    package = tmp_path / "package"
    for name in ("tool", "server"):
        program = package / "usr" / "bin" / f"oh-{name}"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\necho {name}\n")
        program.chmod(0o755)
    (package / "DEBIAN").mkdir()
    (package / "DEBIAN" / "control").write_text(
        "Package: oh-package\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: none\n"
    )
    deb = tmp_path / "oh-package_1_all.deb"
    subprocess.run(["dpkg-deb", "-b", package, deb], check=True, capture_output=True)
    apt = tmp_path / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path / "asked"}\ncp {deb} .\n')
    apt.chmod(0o755)
    return apt.parent


def take_programs(mirror: Path) -> subprocess.CompletedProcess[str]:
    """`program_of` of ./dev alone, with a virtual environment of its own beside the mirror."""
    (mirror.parent / "venv" / "bin").mkdir(parents=True, exist_ok=True)
    script = """
        set -euo pipefail
        for name in say seconds_since program_of; do
            eval "$(sed -n "/^$name() {.*}\\$/p; /^$name() {\\$/,/^}/p" "$0")"
        done
        program_of oh-package "1 MB" oh-tool=oh-tool oh-server=oh-server-1
    """
    environment = {"PATH": f"{mirror}:/usr/bin:/bin", "venv": str(mirror.parent / "venv")}
    return subprocess.run(
        ["bash", "-c", script, str(ROOT / "dev")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_dev_programs_of_a_package_are_taken_out_of_one_download_and_not_again(mirror: Path) -> None:
    first, second = take_programs(mirror), take_programs(mirror)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "oh-tool oh-server-1, of Debian's package oh-package" in first.stderr
    assert second.stderr == ""
    assert (mirror.parent / "asked").read_text() == "download -q oh-package\n"
    found = sorted((mirror.parent / "venv" / "bin").iterdir())
    assert [path.name for path in found] == ["oh-server-1", "oh-tool"]
    said = [subprocess.run([path], capture_output=True, text=True, check=True).stdout for path in found]
    assert said == ["server\n", "tool\n"]


def test_dev_programs_of_which_one_is_missing_are_taken_again(mirror: Path) -> None:
    take_programs(mirror)
    (mirror.parent / "venv" / "bin" / "oh-tool").unlink()
    assert take_programs(mirror).returncode == 0
    assert (mirror.parent / "venv" / "bin" / "oh-tool").exists()


def test_dev_programs_that_cannot_be_had_are_said_and_no_failure(mirror: Path) -> None:
    (mirror / "apt-get").write_text("#!/bin/sh\nexit 100\n")
    done = take_programs(mirror)
    assert done.returncode == 0
    assert done.stderr.endswith("setup: oh-tool oh-server-1 cannot be had: tests that need it skip\n")
    assert list((mirror.parent / "venv" / "bin").iterdir()) == []
