# SPDX-License-Identifier: Apache-2.0
import fcntl
import sys
from pathlib import Path

import pytest

from agent.loading import loader
from agent.loading.loader import CompileError, LoaderError, MissingBcc, VerifierError
from bpf import syscall
from bpf.spec import ProgramSpec
from overhop.lab.netns import Netns
from tests.kernel.counting import COUNT_C
from tests.kernel.wire import Wire
from tests.require import require_commands

pytestmark = pytest.mark.usefixtures("no_leaks")

REFUSED_C = COUNT_C.with_name("refused.c")
SPEC = ProgramSpec()

LOAD = """
import sys
from agent.loading.loader import LoaderError
from tests.kernel.counting import Counting
try:
    Counting()
except LoaderError as error:
    print(f"{type(error).__name__}: {error}")
"""
ATTACH = """
from agent.hooks.attach import AttachError, attach
from agent.network.links import link_by_name
from bpf.record import Point
from tests.kernel.counting import Counting
import sys
try:
    attach(link_by_name("v0"), Point.NIC_IN, Counting().program(Point.NIC_IN), sys.argv[1]).detach()
    print("attached")
except AttachError as error:
    print(error)
"""


def run_with(netns: Netns, capabilities: str, code: str, *arguments: str) -> str:
    """What a Python program prints that runs as root with these capabilities only."""
    names = ",".join(f"+{name}" for name in capabilities.split(","))
    limits = [f"--{kind}=-all,{names}" for kind in ("inh-caps", "bounding-set")]
    return netns.run(("setpriv", *limits, "--", sys.executable, "-c", code, *arguments)).strip()


def test_load_gives_programs_maps_and_numbers() -> None:
    with loader.load(SPEC, source=COUNT_C) as loaded:
        assert list(loaded.programs) == ["oh_nic_in", "oh_vport_in", "oh_nic_out", "oh_vport_out"]
        assert sorted(loaded.maps) == ["oh_counters", "oh_owners", "oh_ring"]
        assert all(5 <= insns <= 30 for insns in loaded.verified_insns.values())
        assert 0 < loaded.compile_s < 60
        assert 0 < loaded.load_s < 60
        names = {name: syscall.prog_info(fd).name for name, fd in loaded.programs.items()}
        assert names == {name: name for name in loaded.programs}
        owners = syscall.map_info(loaded.maps["oh_owners"])
        assert (owners.name, owners.key_bytes, owners.value_bytes, owners.max_entries) == (
            "oh_owners",
            4,
            4,
            64,
        )


def test_load_descriptors_are_closed_on_exec() -> None:
    with loader.load(SPEC, source=COUNT_C) as loaded:
        descriptors = [*loaded.programs.values(), *loaded.maps.values()]
        assert len(descriptors) == 7
        assert all(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC for fd in descriptors)


def test_load_of_some_programs_loads_those_only() -> None:
    with loader.load(SPEC, source=COUNT_C, programs=["oh_vport_out"]) as loaded:
        assert list(loaded.programs) == ["oh_vport_out"]


def test_close_twice_is_fine() -> None:
    loaded = loader.load(SPEC, source=COUNT_C, programs=["oh_nic_in"])
    loaded.close()
    loaded.close()
    assert (loaded.programs, loaded.maps) == ({}, {})


def test_load_passes_further_options_to_the_compiler() -> None:
    with loader.load(SPEC, source=COUNT_C, extra_defines=["-DVERDICT=TC_ACT_OK"]) as loaded:
        assert syscall.prog_test_run(loaded.programs["oh_nic_in"], bytes(60)).retval == 0
    with loader.load(SPEC, source=COUNT_C) as loaded:
        assert syscall.prog_test_run(loaded.programs["oh_nic_in"], bytes(60)).retval == -1


def test_load_of_wrong_source_says_file_line_and_error(tmp_path: Path) -> None:
    source = tmp_path / "wrong.c"
    source.write_text("int oh_nic_in(struct __sk_buff *skb)\n{\n\treturn nope;\n}\n")
    with pytest.raises(CompileError) as caught:
        loader.load(SPEC, source=source)
    assert str(caught.value) == "compile wrong.c:3:9: error: use of undeclared identifier 'nope'"
    assert "        return nope;" in caught.value.detail


def test_load_with_warnings_as_errors_refuses_a_warning(tmp_path: Path) -> None:
    source = tmp_path / "unused.c"
    source.write_text("int oh_nic_in(struct __sk_buff *skb)\n{\n\tint x;\n\treturn -1;\n}\n")
    loader.load(SPEC, source=source, programs=["oh_nic_in"]).close()
    with pytest.raises(CompileError, match=r"unused\.c:3:6: error: unused variable 'x'"):
        loader.load(SPEC, source=source, programs=["oh_nic_in"], extra_defines=["-Wall", "-Werror"])


def test_load_that_exceeds_the_stack_is_a_compile_error(tmp_path: Path) -> None:
    source = tmp_path / "stack.c"
    source.write_text(
        "int oh_nic_in(struct __sk_buff *skb)\n{\n\tvolatile char big[600];\n\n"
        "\tbig[skb->len & 511] = 1;\n\treturn big[skb->mark & 511];\n}\n"
    )
    with pytest.raises(CompileError, match=r"stack\.c.*stack limit of 512 bytes"):
        loader.load(SPEC, source=source, programs=["oh_nic_in"])


def test_load_refused_by_the_verifier_says_why() -> None:
    with pytest.raises(VerifierError) as caught:
        loader.load(SPEC, source=REFUSED_C, programs=["oh_nic_in"])
    assert str(caught.value) == (
        "load oh_nic_in: EACCES: the kernel's verifier says: R0 invalid mem access 'map_value_or_null'"
    )
    assert any(line.startswith("processed 7 insns") for line in caught.value.detail)


def test_load_of_an_unknown_program_is_refused_by_name() -> None:
    with pytest.raises(LoaderError, match="load oh_nope: Unknown program b'oh_nope'"):
        loader.load(SPEC, source=COUNT_C, programs=["oh_nope"])


def test_load_of_a_missing_source_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"none\.c: no such file"):
        loader.load(SPEC, source=tmp_path / "none.c")


@pytest.mark.parametrize("python", ["/no/such/python", "venv"])
def test_load_without_bcc_says_what_to_install(python: str, tmp_path: Path) -> None:
    if python == "venv":
        python = str(tmp_path / "python")
        Path(python).write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
        Path(python).chmod(0o755)
    with pytest.raises(MissingBcc, match=r"no Python with bcc \(.*python: No .*\): install python3-bpfcc"):
        loader.load(SPEC, source=COUNT_C, python=python)


def test_load_takes_the_python_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERHOP_BCC_PYTHON", "/no/such/python")
    with pytest.raises(MissingBcc, match="/no/such/python: No such file"):
        loader.load(SPEC, source=COUNT_C)


def test_load_with_a_child_that_dies_says_so(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\ncat >/dev/null\necho oops >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(LoaderError, match=r"count\.c: the compiling child ended with status 3") as caught:
        loader.load(SPEC, source=COUNT_C, python=str(python))
    assert caught.value.detail == ("oops",)


@pytest.mark.parametrize(
    ("capabilities", "said"),
    [
        ("net_admin,perfmon", "MissingCapability: create map oh_ring: EPERM: the agent needs CAP_BPF"),
        ("bpf,perfmon", "MissingCapability: load oh_nic_in: EPERM: the agent needs CAP_NET_ADMIN"),
        ("bpf,perfmon,net_admin", ""),
    ],
)
def test_load_without_a_capability_names_it(netns: Netns, capabilities: str, said: str) -> None:
    require_commands("setpriv")
    assert run_with(netns, capabilities, LOAD) == said


@pytest.mark.parametrize("mode", ["tcx", "clsact"])
def test_attach_with_the_three_capabilities_alone_works(wire: Wire, netns: Netns, mode: str) -> None:
    require_commands("setpriv")
    assert run_with(netns, "bpf,perfmon,net_admin", ATTACH, mode) == "attached"


def test_attach_without_net_admin_names_it(wire: Wire, netns: Netns) -> None:
    require_commands("setpriv")
    said = run_with(netns, "sys_admin", ATTACH, "clsact")
    assert said == "attach v0 ingress (nic-in): EPERM: the agent needs CAP_NET_ADMIN"


def test_load_that_takes_too_long_is_ended_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 100\n")
    python.chmod(0o755)
    monkeypatch.setattr(loader, "TIMEOUT_S", 0.2)
    with pytest.raises(LoaderError, match=r"did not finish within 0\.2 s; is the machine overloaded"):
        loader.load(SPEC, source=COUNT_C, python=str(python))
