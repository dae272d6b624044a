# SPDX-License-Identifier: Apache-2.0
"""What the kernels said, as one table and a list of problems."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.kernels.builds import BUDGET_INSNS, EXCHANGES

Line = dict[str, Any]  # parsed JSON of guest.py
Results = Mapping[str, Sequence[Line]]
"""Lines of guest.py by kernel."""

_PROGRAMS = ("oh_nic_in", "oh_vport_in", "oh_nic_out", "oh_vport_out")


def table(results: Results) -> Iterator[str]:
    """Markdown: builds by program and kernel; instructions the verifier processed, or that it refused.

    The builds for the fuzz are others again, and left out.
    """
    kernels = list(results)
    yield "| build | program | " + " | ".join(kernels) + " |"
    yield "|---|---|" + "---:|" * len(kernels)
    cells = {
        (line["build"], line["program"], kernel): "refused" if line["refused"] else f"{line['insns']:,}"
        for kernel, lines in results.items()
        for line in lines
        if "program" in line and not line["build"].startswith("fuzz ")
    }
    for build in dict.fromkeys(key[0] for key in cells):
        for program in _PROGRAMS:
            row = [cells.get((build, program, kernel), "") for kernel in kernels]
            if any(row):
                yield f"| {build} | {program} | " + " | ".join(row) + " |"


def other_steps(results: Results) -> Iterator[str]:
    """Markdown: one line a result of the steps other than the verifier's."""
    for kernel, lines in results.items():
        for line in lines:
            if "program" not in line and set(line) != {"step", "seconds"}:
                facts = ", ".join(f"{name} {_text(value)}" for name, value in line.items() if name != "step")
                yield f"- {kernel} {line['step']}: {facts}"


def problems(results: Results) -> list[str]:
    """What is not as it should be, one line each."""
    found = []
    for kernel, lines in results.items():
        wants_tcx = next((line["has_tcx"] for line in lines if "has_tcx" in line), False)
        found += [f"{kernel}: {problem}" for line in lines for problem in _problems_of(line, wants_tcx)]
    return found


def _problems_of(line: Line, has_tcx: bool) -> Iterator[str]:
    if "failed" in line:
        yield f"{line['step']}: {line['failed'].splitlines()[-1]}"
    if line.get("refused"):
        yield f"{line['build']} {line['program']}: refused: {' / '.join(line['refused'][-2:])}"
    elif "program" in line and line["insns"] >= BUDGET_INSNS:
        yield f"{line['build']} {line['program']}: {line['insns']} instructions, budget {BUDGET_INSNS}"
    if "problem" in line:
        yield f"fuzz {line['case']}: {line['problem']}"
    if "point" in line:
        yield from _problems_of_attachment(line, "tcx" if has_tcx else "clsact")
    if "hops" in line:
        yield from _problems_of_pairing(line)


def _problems_of_attachment(line: Line, mode: str) -> Iterator[str]:
    if line["mode"] != mode or not line["attached"]:
        yield f"attach {line['point']}: {line}"
    if line["exchanged"] != EXCHANGES or line["left"] is not None:
        yield f"attach {line['point']}: packets lost or a qdisc left: {line}"


def _problems_of_pairing(line: Line) -> Iterator[str]:
    kind = {"n1": "tx", "n2": "rx"}[line["node"]]
    encap = "ipip" if line["cni"] == "ipip" else "vxlan"
    hop = f"{kind} {encap} with context"
    once = {name: count for name, count in line["hops"].items() if name != f"{hop} again"}
    if once != {hop: line["requests"]} or not line["requests"]:
        yield f"pairing on {line['node']}: {line}"


def _text(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={_text(part)}" for name, part in value.items())
    if isinstance(value, list):
        return "+".join(map(str, value))
    return str(value)
