# SPDX-License-Identifier: Apache-2.0
"""Whose addresses are, asked by agents in batches: one answer per question, in their order.

Times are real time in ns. An owner is told only where nobody else could be meant in the whole time asked for.
"""

import json
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from collector.cluster.state import ClusterState
from collector.snapshot import Pod, Service

MAX_QUESTIONS: Final = 5_000
MAX_TIME_NS: Final = (1 << 63) - 1
Kind = Literal["pod", "node", "service", "external", "unknown", "ambiguous"]


def whole(value: object) -> object:
    """JSON Schema counts 5.0 among the integers; strict pydantic does not."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE: Final = BeforeValidator(whole)
_Text = Annotated[str | None, Field(min_length=1, max_length=256)]
_Time = Annotated[int, Field(ge=0), WHOLE]


class Question(BaseModel):
    """Whose an address was in a time, which pod has a uid, or which service a node port: one of them."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
                for name in ("address", "uid", "node_port")
            ]
        },
    )

    address: _Text = None
    from_ns: _Time = 0
    until_ns: _Time = 0
    uid: _Text = None
    node_port: Annotated[int, Field(ge=1, le=65535), WHOLE] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "Question":
        if [self.address, self.uid, self.node_port].count(None) != 2:
            raise ValueError("ask for an address, a uid or a node port")
        return self


class Questions(BaseModel):
    """A batch of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    asked: Annotated[list[Question], Field(max_length=MAX_QUESTIONS)]


class ServicePortName(BaseModel):
    """A port of a service."""

    port: int
    protocol: str
    node_port: int = 0


class Answer(BaseModel):
    """Who it is. `unknown`: nobody that is known; `ambiguous`: two could be meant."""

    kind: Kind
    uid: str = ""
    namespace: str = ""
    name: str = ""
    """Of the pod, node or service."""
    workload: str = ""
    workload_kind: str = ""
    node: str = ""
    labels: dict[str, str] | None = None
    """Of a pod of the node that asks."""
    ports: tuple[ServicePortName, ...] = ()


_UNKNOWN: Final = Answer(kind="unknown")
_AMBIGUOUS: Final = Answer(kind="ambiguous")
_EXTERNAL: Final = Answer(kind="external")


class Answers(BaseModel):
    """One per question."""

    names: list[Answer]


class NameBook:
    """Answers from a state. Threads may share it."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state
        self.counts: dict[str, int] = {}
        """Answers so far, by kind."""

    def answers(self, node: str, questions: Sequence[Question]) -> list[Answer]:
        """For the agent of `node`."""
        found = [self._answer(node, each) for each in questions]
        for each in found:
            self.counts[each.kind] = self.counts.get(each.kind, 0) + 1
        return found

    def reply(self, node: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a body, for the agent of `node`."""
        try:
            questions = Questions.model_validate_json(body)
        except ValidationError as error:
            return 422, json.dumps({"detail": told(error)}).encode()
        found = Answers(names=self.answers(node, questions.asked))
        return 200, found.model_dump_json(exclude_defaults=True).encode()

    def _answer(self, node: str, question: Question) -> Answer:
        if question.uid:
            pod = self._state.pods.known(question.uid)
            return _UNKNOWN if pod is None else _of_pod(pod, node)
        if question.node_port:
            service = self._state.service_of_port(question.node_port)
            return _UNKNOWN if service is None else _of_service(service)
        asked = question.address or ""
        found = self._at(asked, question, node)
        if found is not None:
            return found
        try:
            address = ip_address(asked)
        except ValueError:
            return _UNKNOWN
        if str(address) != asked:  # IPv6 may be written in many ways
            found = self._at(str(address), question, node)
        return found or (_EXTERNAL if self._state.is_outside(address) else _UNKNOWN)

    def _at(self, address: str, question: Question, node: str) -> Answer | None:
        first_ns, last_ns = sorted(min(each, MAX_TIME_NS) for each in (question.from_ns, question.until_ns))
        whose, pod = self._state.whose(address, first_ns, last_ns)
        if whose.said == "ambiguous":
            return _AMBIGUOUS
        if pod is not None:
            return _of_pod(pod, node)
        if (host := self._state.node_at(address)) is not None:
            return Answer(kind="node", name=host.name)
        service = self._state.service_at(address)
        return None if service is None else _of_service(service)


def told(error: ValidationError) -> str:
    """What is wrong, without what was sent: it may hold what is nobody's business."""
    details = error.errors(include_url=False, include_input=False)[:5]
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ") for each in details
    )


def _of_pod(pod: Pod, node: str) -> Answer:
    return Answer(
        kind="pod",
        uid=pod.uid,
        namespace=pod.namespace,
        name=pod.name,
        workload=pod.workload,
        workload_kind=pod.workload_kind,
        node=pod.node,
        labels=dict(pod.labels) if pod.node == node else None,
    )


def _of_service(service: Service) -> Answer:
    ports = tuple(
        ServicePortName(port=each.port, protocol=each.protocol, node_port=each.node_port)
        for each in service.ports
    )
    return Answer(kind="service", namespace=service.namespace, name=service.name, ports=ports)
