# SPDX-License-Identifier: Apache-2.0
"""Plans and explanations as lines for people and as plain data. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from overhop.text import printable

if TYPE_CHECKING:
    from agent.plan.contract import NodePlan, PodSelector
    from agent.plan.yaml_document import Problem
    from dispatcher.planner import Explained, Planned


def planned_json(
    planned: "Planned", unmatched: Sequence["Problem"], node: str | None
) -> Mapping[str, object]:
    """Everything (docs/cli.md); of one node, if one was asked for."""
    return {
        "plans": {
            name: plan.model_dump(mode="json") | {"digest": plan.digest}
            for name, plan in planned.plans.items()
            if node in (None, name)
        },
        "outdated": {name: each for name, each in planned.outdated.items() if node in (None, name)},
        "warnings": [*planned.warnings, *map(str, unmatched)],
    }


def planned_lines(planned: "Planned", unmatched: Sequence["Problem"], node: str | None) -> Iterator[str]:
    """Nodes with equal plans are told once."""
    same: dict[str, list[str]] = {}
    plans = {name: plan for name, plan in planned.plans.items() if node in (None, name)}
    for name, plan in plans.items():
        key = plan.model_copy(update={"node": ""}).digest
        same.setdefault(key, []).append(name)
    for names in same.values():
        yield f"{_some(names)}: " + ("one plan" if len(names) > 1 else f"plan {plans[names[0]].digest}")
        yield from (f"  {line}" for line in _plan_lines(plans[names[0]]))
    for name, contract in planned.outdated.items():
        if node in (None, name):
            yield f"{printable(name)}: its agent knows contract {contract} only and keeps its plan"
    yield from (f"warning: {printable(line)}" for line in (*planned.warnings, *map(str, unmatched)))


def explained_json(explained: "Explained") -> Mapping[str, object]:
    """Everything (docs/cli.md)."""
    winner = explained.winner
    return {
        "node": explained.node,
        "traced": winner is not None and winner.traced,
        "policy": None if winner is None else winner.policy,
        "reason": explained.reason,
        "parameters": None if winner is None else winner.model_dump(mode="json"),
        "considered": [
            {"policy": each.policy, "why_not": each.why_not or None} for each in explained.considered
        ],
    }


def explained_lines(pod: str, explained: "Explained") -> Iterator[str]:
    """What counts, and how it came to that."""
    winner = explained.winner
    is_traced = winner is not None and winner.traced
    verdict = f"{'traced' if is_traced else 'not traced'} on {printable(explained.node)}"
    yield f"{printable(pod)}: {verdict}: {explained.reason}"
    if winner is not None:
        yield f"  {_selector_line(winner)}"
    for each in explained.considered:
        is_winner = winner is not None and each.policy == winner.policy
        said = each.why_not or ("counts" if is_winner else "fits, but is less specific")
        yield f"  policy {each.policy}: {printable(said)}"


def _plan_lines(plan: "NodePlan") -> Iterator[str]:
    yield "nic: " + (printable(", ".join(plan.nic)) or "looked for by the agent")
    program = plan.program.model_dump(mode="json", exclude_none=True)
    given = ", ".join(f"{name} {_value(each)}" for name, each in program.items())
    yield "program: " + (given or "as it is by default")
    for selector in plan.selectors:
        yield _selector_line(selector)


def _selector_line(selector: "PodSelector") -> str:
    where = "any namespace" if selector.namespaces is None else _some(selector.namespaces) or "no namespace"
    labels = f", {', '.join(map(str, selector.labels))}" if selector.labels else ""
    how = []
    if not selector.traced:
        how.append("not traced")
    if len(selector.directions) == 1:
        how.append(f"only {next(iter(selector.directions))}")
    if selector.sample_shift:
        how.append(f"one in {1 << selector.sample_shift} traces")
    if selector.require_sampled:
        how.append("only sampled ones")
    name = f"policy {selector.policy}" if selector.policy else "no policy"
    return printable(f"{name}: {where}{labels}: {', '.join(how) or 'every request'}")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(printable, names[:3]))
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3:,} more"


def _value(value: object) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value).lower()
