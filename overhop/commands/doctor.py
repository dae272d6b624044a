# SPDX-License-Identifier: Apache-2.0
"""`overhop doctor`: what this node can do, what is in the way, what to do about it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from overhop import errors, output
from overhop.doctor import Finding, Verdict, can_run, examine

STYLES = {Verdict.OK: "green", Verdict.NOTE: "cyan", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """Options of the command."""

    cri: str
    as_json: bool


def do_doctor(options: DoctorOptions) -> int:
    """Examine this node; 0 if an agent could run here, else 1."""
    from agent.loading.loader import bcc_pythons
    from collector.node.abilities import read_abilities
    from collector.node.links import read_network
    from overhop.nics import read_nics
    from overhop.own_pods import read_own
    from overhop.running import find_running_agent

    nics, problem = read_nics()
    network = read_network(nics.names, nics.reason or problem)
    findings = examine(read_abilities(bcc_pythons()), network, find_running_agent(), read_own(options.cri))
    if options.as_json:
        rows = [asdict(finding) for finding in findings]
        output.show_json({"can_run": can_run(findings), "findings": rows})
    else:
        output.show(table_of(findings))
        output.show(summary_of(findings))
    return errors.DONE if can_run(findings) else errors.FAILED


def table_of(findings: Sequence[Finding]) -> Table:
    """One row a finding: verdict, subject, fact and, where something is to be done, what."""
    table = output.plain_table(("verdict", "what", "found", "what to do"))
    for finding in findings:
        table.add_row(
            output.literal(finding.verdict, STYLES[finding.verdict]),
            output.literal(finding.subject),
            output.literal(finding.fact),
            output.literal(finding.advice),
        )
    return table


def summary_of(findings: Sequence[Finding]) -> str:
    """Whether the agent could run, and how many warnings there are."""
    warnings = sum(finding.verdict is Verdict.WARN for finding in findings)
    beside = f", with {warnings} warning{'s' if warnings != 1 else ''}" if warnings else ""
    if can_run(findings):
        return f"The agent can run here{beside}."
    failures = [finding.subject for finding in findings if finding.verdict is Verdict.FAIL]
    return f"The agent cannot run here: {', '.join(failures)}."
