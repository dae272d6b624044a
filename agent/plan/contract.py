# SPDX-License-Identifier: Apache-2.0
"""What a controller tells one agent: the plan of its node as JSON (docs/policy.md, "The plan of a node").

Pods come and go without a new plan: it has selectors, which the agent evaluates on the pods of its node.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError, model_validator

from agent.plan.model import ProgramPlan, VportParameters
from agent.plan.names import PlanModel
from agent.plan.yaml_document import shown
from agent.plan.yaml_model import message

CONTRACT: Final = 2
"""The first one that travels; 1 is the standalone plan in YAML."""
MAX_BYTES: Final = 4 << 20
MAX_SERIES: Final = 500
Labels = Mapping[str, str]


class ContractError(Exception):
    """A message that this agent must not follow; one line says why."""


class Requirement(PlanModel):
    """One condition on the labels of a pod, as Kubernetes' label selectors have it."""

    key: Annotated[str, Field(min_length=1)]
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _has_values_where_they_mean_something(self) -> "Requirement":
        if (self.operator in ("In", "NotIn")) != bool(self.values):
            wants = "needs values" if not self.values else "has no values"
            raise ValueError(f"{self.operator} {wants}")
        return self

    def fits(self, labels: Labels) -> bool:
        """NotIn fits a pod without the label too, as in Kubernetes."""
        if self.operator == "Exists":
            return self.key in labels
        if self.operator == "DoesNotExist":
            return self.key not in labels
        return (labels.get(self.key) in self.values) == (self.operator == "In")

    def __str__(self) -> str:
        if not self.values:
            return self.key if self.operator == "Exists" else f"!{self.key}"
        if self.operator == "In" and len(self.values) == 1:
            return f"{self.key}={self.values[0]}"
        return f"{self.key} {'in' if self.operator == 'In' else 'notin'} ({', '.join(self.values)})"


Requirements = Annotated[tuple[Requirement, ...], Field(strict=False)]


class PodSelector(VportParameters):
    """Which pods a policy is for, and how they are traced."""

    policy: str
    """Its name; empty: there is no policy."""
    namespaces: Annotated[tuple[str, ...] | None, Field(strict=False)] = None
    """None: any."""
    labels: Requirements = ()

    def fits(self, namespace: str, labels: Labels) -> bool:
        """Whether a pod is meant."""
        is_inside = self.namespaces is None or namespace in self.namespaces
        return is_inside and all(each.fits(labels) for each in self.labels)


class NodePlan(PlanModel):
    """What the agent of one node shall do. `nic`: empty where it is to look itself."""

    contract: Literal[2] = CONTRACT
    cluster: str
    node: Annotated[str, Field(min_length=1)]
    nic: Annotated[tuple[str, ...], Field(strict=False)] = ()
    program: ProgramPlan = ProgramPlan()
    selectors: Annotated[tuple[PodSelector, ...], Field(strict=False)] = ()
    """The first that fits a pod counts; a pod that none fits is not traced."""
    max_series: Annotated[int, Field(ge=1, le=100_000)] = MAX_SERIES

    def selector_for(self, namespace: str, labels: Labels) -> PodSelector | None:
        """What counts for a pod; None: it is not traced."""
        return next((each for each in self.selectors if each.fits(namespace, labels)), None)

    def as_json(self) -> bytes:
        """The message; equal plans give equal bytes."""
        plain = self.model_dump(mode="json", exclude_defaults=True)
        return json.dumps({"contract": CONTRACT} | plain, sort_keys=True, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """Of the message: its ETag without the quotes."""
        return sha256(self.as_json()).hexdigest()[:16]


def parse_message(data: bytes, node: str) -> NodePlan:
    """The plan in a message to the agent of `node`. Raises ContractError, and nothing else."""
    if len(data) > MAX_BYTES:
        raise ContractError(f"plan: {len(data)} bytes, at most {MAX_BYTES} are read")
    try:
        plain: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise ContractError("plan: it is no JSON") from None
    if not isinstance(plain, dict):
        raise ContractError("plan: it is no JSON object")
    contract = plain.get("contract")
    if contract != CONTRACT:
        said = "it names no contract" if contract is None else f"contract {contract!r}"
        raise ContractError(f"plan: {said}, this agent knows contract {CONTRACT}")
    try:
        plan = NodePlan.model_validate_json(data)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = shown(detail["loc"])
        raise ContractError(f"plan: {place}: {message(detail, NodePlan)}") from None
    if plan.node != node:
        raise ContractError(f"plan: it is for node {plan.node!r}, this is {node!r}")
    return plan
