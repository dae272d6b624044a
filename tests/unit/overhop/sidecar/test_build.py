# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys
from pathlib import Path

import pytest

from overhop.sidecar.build import BuildError, build, find_compiler, main
from tests.require import require_commands


@pytest.fixture
def compiler(tmp_path: Path) -> Path:
    """A directory with a `cc` that fails as one without the C library's headers."""
    program = tmp_path / "bin" / "cc"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'fatal error: stdlib.h: No such file or directory' >&2\nexit 1\n")
    program.chmod(0o755)
    return program


def test_find_compiler_takes_the_command_of_cc(compiler: Path) -> None:
    found = find_compiler({"PATH": str(compiler.parent), "CC": "cc -m64 -pipe"})
    assert found == [str(compiler), "-m64", "-pipe"]


def test_find_compiler_without_any_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as raised:
        find_compiler({"PATH": str(tmp_path)})
    assert str(raised.value) == (
        "cc, gcc, clang: no C compiler found: install one (apt install gcc libc6-dev), or name one by CC"
    )


def test_find_compiler_that_cc_names_but_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="CC=tcc: no such program"):
        find_compiler({"PATH": str(tmp_path), "CC": "tcc"})


def test_build_makes_a_module_that_a_loader_takes_for_one(tmp_path: Path) -> None:
    require_commands("cc")
    module = build(tmp_path / "made")
    assert module == tmp_path / "made" / "librelocate.so"
    assert os.listdir(module.parent) == ["librelocate.so"]
    # Without an Envoy around it its functions are missing, which is told at once, not at the first call.
    code = f"import ctypes; ctypes.CDLL({str(module)!r}, ctypes.RTLD_GLOBAL)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert "undefined symbol: envoy_dynamic_module_callback_" in done.stderr


def test_build_twice_makes_the_same_bytes(tmp_path: Path) -> None:
    require_commands("cc")
    assert build(tmp_path / "one").read_bytes() == build(tmp_path / "two").read_bytes()


def test_build_that_fails_keeps_the_module_that_was_there(tmp_path: Path, compiler: Path) -> None:
    module = tmp_path / "librelocate.so"
    module.write_bytes(b"old")
    with pytest.raises(BuildError, match="install the C library's headers: apt install libc6-dev"):
        build(tmp_path, {"PATH": str(compiler.parent)})
    assert module.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["bin", "librelocate.so"]


def test_build_into_what_is_no_directory_is_one_line_and_code_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_commands("cc")
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file")]) == 1
    place = tmp_path / "file"
    assert capsys.readouterr() == (
        "",
        f"./dev: sidecar build: {place}: File exists: name another directory by --out\n",
    )


def test_build_prints_the_path_alone_on_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_commands("cc")
    assert main(["--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path}/librelocate.so\n"
    assert (
        said.err == f"Start Envoy with ENVOY_DYNAMIC_MODULES_SEARCH_PATH={tmp_path} and the native filter\n"
    )
