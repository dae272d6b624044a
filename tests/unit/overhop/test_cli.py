# SPDX-License-Identifier: Apache-2.0
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from overhop import cli

ROOT = Path(__file__).parents[3]


def commands(command: object, name: str = "") -> list[str]:
    """Every command with the groups before it: `config check`."""
    if not isinstance(command, typer.core.TyperGroup):
        return [name]
    inner = [commands(one, f"{name} {key}".strip()) for key, one in sorted(command.commands.items())]
    return [each for some in inner for each in some]


COMMANDS = commands(typer.main.get_command(cli.app))


def run(*arguments: str) -> int:
    return cli.main(arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--unknown"],
        ["unknown"],
        [],
        ["--log-level", "loud", "clean"],
        ["doctor", "extra"],
        *([*command.split(), "--unknown"] for command in COMMANDS),
    ],
)
def test_main_wrong_usage_is_one_line_and_code_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"overhop: [^\n]+\n", said.err)


def test_main_unknown_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    run("doctor", "--jsno")
    assert capsys.readouterr().err.startswith("overhop: No such option: --jsno")


def test_main_version_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == "overhop 0.1.0\n"


def test_version_is_the_one_of_the_package() -> None:
    assert 'version = "0.1.0"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_main_help_of_each_command_names_its_json_option(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*command.split(), "--help") == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"Usage: overhop {command} ")
    assert "--json" in said.out
    assert said.err == ""


def test_main_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = capsys.readouterr().out
    names = {command.split()[0] for command in COMMANDS}
    assert [name for name in names if not re.search(rf"^  {name} ", out, re.MULTILINE)] == []
    assert "..." not in out.partition("Commands:")[2]


def test_module_closed_pipe_is_quiet() -> None:
    script = f"{sys.executable} -m overhop doctor --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""


def test_module_ctrl_c_while_it_loads_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    done = subprocess.run(
        [sys.executable, "-m", "overhop", "--version"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_doctor_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    code = run("doctor", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["can_run"] is (code == 0)
    assert {row["subject"] for row in found["findings"]} >= {"kernel", "attach", "compiler"}


def code_of(document: str) -> str:
    return "\n".join(re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), re.DOTALL))


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_only_commands_that_exist(document: str) -> None:
    named = set(re.findall(r"\./dev run (\w+)", code_of(document)))
    assert named - {command.split()[0] for command in COMMANDS} == set()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_only_dev_commands_that_exist(document: str) -> None:
    shown = subprocess.run([ROOT / "dev", "help"], capture_output=True, text=True, check=True).stdout
    existing = set(re.findall(r"^  (\w+) ", shown, re.MULTILINE))
    named = set(re.findall(r"\./dev (\w+)", code_of(document)))
    assert named
    assert named - existing == set()
