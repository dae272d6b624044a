# SPDX-License-Identifier: Apache-2.0
"""Bad input and missing things at the start: each is said in one clear line, with the right exit code."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.loading.loader import PYTHON_VARIABLE
from overhop.lab import Node
from tests.accept import kernel_state
from tests.accept.lifecycle import Stage
from tests.accept.verdict import Verdict

ROOT = Path(__file__).parents[2]
ROOMS = ("overhop", "agent", "bpf", "collector")
REFUSED_C = ROOT / "tests" / "data" / "refused.c"
RUN_TIMEOUT_S = 90.0
L3_NIC = "tun7"
_MORE = r"( \(\d+ lines? more with --debug\))?"
_READ_ONLY = 'mkdir -p /run/overhop && mount -t tmpfs -o ro none /run/overhop && exec "$@"'


@dataclass(frozen=True, slots=True)
class Case:
    """What is given to `overhop agent`, and all that it says, as patterns of whole lines."""

    name: str
    arguments: Sequence[str]
    code: int
    says: Sequence[str]
    under: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    checkout: Path = ROOT


def bad_input(place: Stage, *, quick: bool = False) -> Verdict:
    """Every case, or with `quick` those that do not compile; afterwards nothing is attached."""
    verdict = Verdict("bad input")
    place.node.run("ip", "tuntap", "add", "dev", L3_NIC, "mode", "tun")
    cases = [*_usage_cases(), *_plan_cases(place.directory)]
    if not quick:
        cases += [*_right_cases(), *_loader_cases(place.directory)]
    for case in cases:
        _check(verdict, place.node, case)
    place.node.run("ip", "link", "del", L3_NIC)
    verdict.numbers["cases"] = len(cases)
    verdict.eventually("programs left", lambda: dict(kernel_state.hooks(place.node)), {}, 10.0)
    return verdict


def _check(verdict: Verdict, node: Node, case: Case) -> None:
    with node.netns.entered():
        done = subprocess.run(
            [*case.under, sys.executable, "-m", "overhop", "agent", *case.arguments],
            cwd=case.checkout,
            env={**os.environ, **case.environment},
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )
    verdict.equal(f"{case.name}: exit code", done.returncode, case.code)
    verdict.equal(f"{case.name}: standard output", done.stdout, "")
    lines = done.stderr.splitlines()
    fits = len(lines) == len(case.says) and all(map(re.fullmatch, case.says, lines))
    if not fits:
        verdict.problems.append(f"{case.name}: says {lines}, expected {list(case.says)}")


def _usage_cases() -> list[Case]:
    see = re.escape(" (see overhop agent --help)")
    return [
        Case("unknown option", ["--frobnicate"], 2, [f"overhop: No such option: --frobnicate{see}"]),
        Case("no number", ["--duration", "x"], 2, [f"overhop: Invalid value for '--duration': .*{see}"]),
        Case(
            "plan and nic",
            ["--plan", "x", "--nic", "y"],
            2,
            ["overhop: --plan and --nic: the plan names the NIC: give one of them, or none for the other"],
        ),
        Case("no such NIC", ["--nic", "eth9"], 2, ["overhop: nic: eth9: no such interface: see `ip link`"]),
    ]


def _plan_cases(directory: Path) -> list[Case]:
    texts = {
        "wrong plan": (
            b"nic: eth0\nvports:\n  - match: veth1\n    namespce: shop\nprogram:\n  window: 7\n",
            [
                r":4:5: vports\[0\]\.namespce: unknown key, did you mean `namespace`\?",
                r":6:11: program\.window: 7 is not within 64 to 8192 bytes",
            ],
        ),
        "broken YAML": (b"nic: [eth0\nvports: {\n", [":2:7: broken YAML: .*"]),
        "no UTF-8": (b"nic: eth0 # \xe9\n", [": is no UTF-8 text: byte 12"]),
        "empty plan": (b"", [": is empty: give at least `nic` or `vports`"]),
    }
    cases = []
    for name, (text, says) in texts.items():
        path = directory / f"{name.replace(' ', '-')}.yaml"
        path.write_bytes(text)
        cases.append(Case(name, ["--plan", str(path)], 2, [f"overhop: {path}{line}" for line in says]))
    absent = directory / "absent.yaml"
    return [
        *cases,
        _unreadable("absent plan", absent, "No such file or directory"),
        _unreadable("plan that is a directory", directory, "Is a directory"),
    ]


def _unreadable(name: str, path: Path, reason: str) -> Case:
    return Case(name, ["--plan", str(path)], 2, [f"overhop: {path}: cannot be read: {reason}"])


def _right_cases() -> list[Case]:
    """CAP_SYS_ADMIN would stand for the others."""
    says = {
        "bpf": "create map oh_[a-z]+: EPERM: the agent needs CAP_BPF",
        "perfmon": "load oh_[a-z_]+: EACCES: .*: the agent needs CAP_PERFMON",
        "net_admin": ".*: EPERM: the agent needs CAP_NET_ADMIN",
    }
    cases = [
        Case(
            f"without CAP_{name.upper()}",
            [],
            1,
            [f"overhop: {line}{_MORE}"],
            under=("setpriv", f"--bounding-set=-{name},-sys_admin", f"--inh-caps=-{name},-sys_admin"),
        )
        for name, line in says.items()
    ]
    read_only = ("unshare", "--mount", "sh", "-c", _READ_ONLY, "sh")
    reason = "Read-only file system: the agent must be able to write there"
    return [
        *cases,
        Case(
            "socket directory not writable",
            [],
            1,
            [rf"overhop: record socket /run/overhop/record-\d+\.sock: {reason}"],
            under=read_only,
        ),
    ]


def _loader_cases(directory: Path) -> list[Case]:
    broken = _checkout(directory / "broken", "int oh_nic_in(struct __sk_buff *skb) { return nonsense; }\n")
    refused = _checkout(directory / "refused", REFUSED_C.read_text())
    bcc = r"overhop: load: no Python with bcc \({}: {}\): install python3-bpfcc, or set .*"
    return [
        Case(
            "no bcc",
            [],
            1,
            [bcc.format(re.escape(sys.executable), "No module named 'bcc'")],
            environment={PYTHON_VARIABLE: sys.executable},
        ),
        Case(
            "no such Python",
            [],
            1,
            [bcc.format("/nonexistent", "No such file or directory")],
            environment={PYTHON_VARIABLE: "/nonexistent"},
        ),
        Case(
            "compiler refusal",
            [],
            1,
            [rf"overhop: compile hop\.bpf\.c:1:\d+: error: use of undeclared identifier 'nonsense'{_MORE}"],
            checkout=broken,
        ),
        Case(
            "verifier refusal",
            [],
            1,
            [rf"overhop: load oh_[a-z_]+: [A-Z]+: the kernel's verifier says: .*{_MORE}"],
            checkout=refused,
        ),
        Case(
            "NIC without Ethernet header",
            ["--nic", L3_NIC],
            1,
            [rf"overhop: attach {L3_NIC} ingress \(nic-in\): its packets have no Ethernet header .*"],
        ),
    ]


def _checkout(directory: Path, source: str) -> Path:
    """A copy of the rooms with another kernel program."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, directory / room, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "bpf" / "hop.bpf.c").write_text(source)
    return directory
