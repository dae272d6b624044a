# SPDX-License-Identifier: Apache-2.0
import errno
import re
from pathlib import Path

import pytest

from agent.loading.loader import CompileError, MissingBcc
from agent.plan.model import PlanError, load_plan
from overhop import errors
from overhop.errors import Failure, explain


def raised(error: Exception) -> Exception:
    """The same error, with a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


def test_explain_command_error_is_one_line_and_code_1() -> None:
    error = errors.CommandError("attach eth0 ingress: EPERM:\n the agent needs CAP_NET_ADMIN")
    assert explain(error) == Failure(("attach eth0 ingress: EPERM:; the agent needs CAP_NET_ADMIN",), 1)


def test_explain_usage_error_is_code_2() -> None:
    assert explain(errors.UsageError("no")) == Failure(("no",), 2)


def test_explain_compile_error_keeps_the_compilers_lines_as_detail() -> None:
    assert explain(CompileError("compile hop.bpf.c:3: no", ["a", "b"])) == Failure(
        ("compile hop.bpf.c:3: no",), 1, ("a", "b")
    )


def test_explain_missing_bcc_is_code_1() -> None:
    assert explain(MissingBcc("load: no Python with bcc")) == Failure(("load: no Python with bcc",), 1)


def test_explain_plan_error_is_one_line_a_problem_and_code_2(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("nic: [a/b]\nvport: []\n")
    with pytest.raises(PlanError) as caught:
        load_plan(file)
    failure = explain(caught.value)
    assert failure is not None
    assert failure.exit_code == 2
    assert len(failure.lines) == 2
    assert all(str(file) in line for line in failure.lines)


def test_explain_os_error_names_the_file() -> None:
    error = FileNotFoundError(errno.ENOENT, "No such file or directory", "plan.yaml")
    assert explain(error) == Failure(("plan.yaml: No such file or directory",), 1)


def test_explain_os_error_with_a_message_of_ours_stands() -> None:
    assert explain(OSError("ip link: no such device")) == Failure(("ip link: no such device",), 1)


def test_explain_ctrl_c_is_code_130() -> None:
    assert explain(KeyboardInterrupt()) == Failure(("interrupted",), 130)


def test_explain_defect_is_none() -> None:
    assert explain(KeyError("x")) is None


def test_report_defect_writes_a_traceback_and_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    code = errors.report(raised(KeyError("hop\x1b")), debug=False)
    said = capsys.readouterr().err
    found = re.fullmatch(r"overhop: internal error: KeyError: '.*'; please report it with (\S+)\n", said)
    assert code == 1
    assert found is not None
    assert "\x1b" not in said
    path = Path(found[1])
    assert "raise error" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()


def test_report_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors.report(raised(ZeroDivisionError("bad")), debug=True) == 1
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert said.endswith("overhop: internal error: ZeroDivisionError: bad\n")


def test_report_detail_is_announced_and_shown_with_debug(capsys: pytest.CaptureFixture[str]) -> None:
    error = CompileError("compile a.c:1: no", ["first", "second"])
    errors.report(error, debug=False)
    assert capsys.readouterr().err == "overhop: compile a.c:1: no (2 lines more with --debug)\n"
    errors.report(CompileError("compile a.c:1: no", ["first"]), debug=False)
    assert capsys.readouterr().err == "overhop: compile a.c:1: no (1 line more with --debug)\n"
    errors.report(error, debug=True)
    assert "first\nsecond\noverhop: compile a.c:1: no\n" in capsys.readouterr().err
