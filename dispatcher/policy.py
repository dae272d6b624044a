# SPDX-License-Identifier: Apache-2.0
"""What people want traced: policies in YAML (docs/policy.md), and which of them counts for a pod."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from agent.plan.contract import Labels, Requirement, Requirements
from agent.plan.model import SearchPlan, VportParameters
from agent.plan.names import PlanModel, listed
from agent.plan.yaml_document import Document, Problem, load, parse
from agent.plan.yaml_model import kind_of, validated
from collector.snapshot import Namespace, Pod, Snapshot

_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?")
_WILD: Final = frozenset("*?[")


class PolicyError(Exception):
    """Policies cannot be used; `problems` are all that is wrong, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _policy_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name: 1 to 63 of a-z 0-9 - and ., a letter or digit at both ends")
    return name


class LabelSelector(PlanModel):
    """As Kubernetes has it: everything that is given must fit."""

    match_labels: dict[str, str] = Field(default_factory=dict, alias="matchLabels")
    match_expressions: Annotated[Requirements, Field(alias="matchExpressions")] = ()

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """All of it, in a fixed order."""
        equal = (
            Requirement(key=key, operator="In", values=(value,)) for key, value in self.match_labels.items()
        )
        return tuple(sorted((*equal, *self.match_expressions), key=lambda each: (each.key, str(each))))

    def fits(self, labels: Labels) -> bool:
        """Whether labels are meant; an empty selector fits any."""
        return all(each.fits(labels) for each in self.requirements)


ANY: Final = LabelSelector()


class Policy(VportParameters):
    """One policy. What is not given fits anything."""

    name: Annotated[str, AfterValidator(_policy_name)]
    namespaces: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(listed), Field(strict=False)
    ] = ()
    """Names, or patterns with * ? [..]."""
    namespace_selector: LabelSelector = ANY
    pod_selector: LabelSelector = ANY
    node_selector: LabelSelector = ANY
    search: SearchPlan = SearchPlan()

    def fits_namespace(self, namespace: Namespace) -> bool:
        """By name and by labels."""
        is_named = not self.namespaces or any(
            fnmatchcase(namespace.name, pattern) for pattern in self.namespaces
        )
        return is_named and self.namespace_selector.fits(namespace.labels)

    @property
    def fits_any_namespace(self) -> bool:
        """Also one that nobody has heard of yet."""
        return not self.namespaces and not self.namespace_selector.requirements

    @property
    def precedence(self) -> tuple[int, int, str]:
        """Smaller counts first: more conditions on labels of pods, then on the namespace, then the name."""
        if self.fits_any_namespace:
            rank = 2
        else:
            is_exact = bool(self.namespaces) and not any(_WILD & set(name) for name in self.namespaces)
            rank = 0 if is_exact else 1
        return (-len(self.pod_selector.requirements), rank, self.name)

    def parameters(self) -> dict[str, object]:
        """How a pod is traced for which it counts."""
        return {name: getattr(self, name) for name in VportParameters.model_fields}


class _File(PlanModel):
    policies: Annotated[tuple[Policy, ...], Field(strict=False)] = ()


@dataclass(frozen=True, slots=True)
class Policies:
    """Those of a file, the one that counts first before the others; empty: everything is traced."""

    policies: tuple[Policy, ...] = ()
    document: Document | None = None

    def unmatched(self, snapshot: Snapshot) -> list[Problem]:
        """Policies that are for nobody now: perhaps a name is wrong."""
        waiting = {policy.name: policy for policy in self.policies}
        for pod in snapshot.pods.values():
            for policy in [one for one in waiting.values() if fits_pod(one, pod, snapshot)]:
                del waiting[policy.name]
            if not waiting:
                break
        if self.document is None:
            return []
        return sorted(self._unmatched(policy) for policy in waiting.values())

    def _unmatched(self, policy: Policy) -> Problem:
        assert self.document is not None
        at = self._numbers().get(policy.name, 0)
        line, column = self.document.places.get(("policies", at), (0, 0))
        said = f"policy {policy.name!r} fits no pod that there is"
        return Problem(self.document.file, line, column, f"policies[{at}]", said)

    def _numbers(self) -> dict[str, int]:
        data = self.document.data if self.document is not None else None
        entries = data.get("policies") if isinstance(data, dict) else None
        found = {}
        for at, entry in enumerate(entries if isinstance(entries, list) else []):
            if isinstance(entry, dict):
                found[str(entry.get("name"))] = at
        return found


def fits_pod(policy: Policy, pod: Pod, snapshot: Snapshot) -> bool:
    """Whether a policy is for a pod; in a namespace that is not known only those are that fit any."""
    node, namespace = snapshot.nodes.get(pod.node), snapshot.namespaces.get(pod.namespace)
    return (
        policy.node_selector.fits(node.labels if node else {})
        and (policy.fits_any_namespace if namespace is None else policy.fits_namespace(namespace))
        and policy.pod_selector.fits(pod.labels)
    )


def load_policies(path: str | os.PathLike[str]) -> Policies:
    """The policies in a YAML file. Raises PolicyError with everything that is wrong, never anything else."""
    return _policies_of(load(path))


def parse_policies(text: str, file: str = "policies") -> Policies:
    """As load_policies, from text."""
    return _policies_of(parse(text, file))


def in_order(policies: Sequence[Policy]) -> tuple[Policy, ...]:
    """The one that counts first before the others."""
    return tuple(sorted(policies, key=lambda policy: policy.precedence))


def _policies_of(document: Document) -> Policies:
    found = None
    if isinstance(document.data, dict):
        found = validated(document, document.data, _File)
        _report_names(document, document.data)
    elif not document.problems:
        document.report((), f"must be a mapping with `policies`, not {kind_of(document.data)}")
    if document.problems or found is None:
        raise PolicyError(document.problems)
    return Policies(in_order(found.policies), document)


def _report_names(document: Document, data: Mapping[str, object]) -> None:
    seen: dict[str, int] = {}
    entries = data.get("policies")
    for at, entry in enumerate(entries if isinstance(entries, list) else []):
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and seen.setdefault(name, at) != at:
            document.report(("policies", at, "name"), f"{name!r} is already policies[{seen[name]}].name")
