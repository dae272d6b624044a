# SPDX-License-Identifier: Apache-2.0
"""The controller's HTTP interface (docs/controller.md; /openapi.json describes it).

Whoever gets here was let in by dispatcher.gate; `overhop.node` of the scope says whose agent it is.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from agent.plan.contract import CONTRACT, NodePlan
from collector.cluster.state import ClusterState
from collector.snapshot import NodeInventory, Overlay
from dispatcher.control import Control
from dispatcher.drift_book import Again, DriftBook, NatMessage
from dispatcher.names import WHOLE, Answers, NameBook, Questions

MAX_WAIT_S: Final = 60.0
PLANNED_S: Final = 2.0
"""How long the answer to an inventory waits for the plan."""
_REASONS: Final = {
    400: "the request is wrong",
    401: "no valid token",
    403: "not this agent's",
    408: "it took too long",
    413: "too large",
    422: "the request is wrong",
    429: "too many requests",
    503: "not the leader, or it does not know the cluster yet",
}
_TOKEN: Final = [Depends(HTTPBearer(auto_error=False, description="of the agent's pod, or of people"))]
"""For the description; the gate asks for it."""
_Name = Annotated[str, Field(max_length=256)]


class _Detail(BaseModel):
    """Why not."""

    detail: str


class OverlayMessage(BaseModel):
    """A tunnel device of a node."""

    model_config = ConfigDict(extra="ignore", strict=True)

    name: _Name
    kind: _Name
    number: Annotated[int, Field(ge=0, lt=1 << 32), WHOLE] = 0
    port: Annotated[int, Field(ge=0, le=65535), WHOLE] = 0
    mtu_bytes: Annotated[int, Field(ge=0, lt=1 << 32), WHOLE] = 0
    over: _Name = ""


class FindingMessage(BaseModel):
    """A line of `overhop doctor` on a node."""

    model_config = ConfigDict(extra="ignore", strict=True)

    subject: _Name
    verdict: _Name
    fact: Annotated[str, Field(max_length=2048)] = ""
    advice: Annotated[str, Field(max_length=2048)] = ""


class InventoryMessage(BaseModel):
    """What an agent says of its node. Keys that are not known are left out: agents may be newer."""

    model_config = ConfigDict(extra="ignore", strict=True)

    nic: Annotated[list[_Name], Field(max_length=64)] = []
    nic_problem: Annotated[str, Field(max_length=1024)] = ""
    overlays: Annotated[list[OverlayMessage], Field(max_length=256)] = []
    addresses: Annotated[list[_Name], Field(max_length=1024)] = []
    contract: Annotated[int, Field(ge=1, lt=1 << 16), WHOLE] = 1
    abilities: Annotated[dict[_Name, bool], Field(max_length=256)] = {}
    findings: Annotated[list[FindingMessage], Field(max_length=100)] = []

    def of(self, node: str) -> NodeInventory:
        """The inventory of that node."""
        overlays = tuple(
            Overlay(each.name, each.kind, each.number, each.port, each.mtu_bytes, each.over)
            for each in self.overlays
        )
        return NodeInventory(
            node,
            tuple(self.nic),
            self.nic_problem,
            overlays,
            self.contract,
            dict(self.abilities),
            tuple(self.addresses),
        )


def make_app(
    state: ClusterState,
    control: Control,
    names: NameBook,
    book: DriftBook,
    facts: Callable[[], Mapping[str, Any]],
    is_ready: Callable[[], bool],
    version: str,
) -> FastAPI:
    """`facts`: what the controller says of the cluster to people; `is_ready`: it leads and has plans."""
    app = FastAPI(
        title="overhop controller",
        version=version,
        docs_url=None,
        redoc_url=None,
        responses={status: {"model": _Detail, "description": text} for status, text in _REASONS.items()},
    )
    app.add_exception_handler(RequestValidationError, _wrong)
    app.add_exception_handler(Exception, _failed)
    _add_health(app, is_ready)
    _add_plan(app, state, control)
    _add_messages(app, state, control, names)

    @app.get("/v1/cluster", dependencies=_TOKEN)
    async def cluster() -> dict[str, Any]:
        """What the controller knows of cluster and agents, for people."""
        return dict(facts())

    @app.put("/v1/nodes/{node}/nat", dependencies=_TOKEN)
    async def nat(node: str, found: NatMessage) -> Again:
        """NAT rules of the agent's node, to be compared with Services and EndpointSlices."""
        return await asyncio.to_thread(book.take, node, found)

    @app.get("/v1/cluster/drift", dependencies=_TOKEN)
    async def drift() -> dict[str, Any]:
        """Drift that lasts on each node, and since when (Unix time, s); null: its rules are not known."""
        return {"nodes": book.facts()}

    @app.get("/v1/cluster/doctor", dependencies=_TOKEN)
    async def doctor() -> dict[str, Any]:
        """What `overhop doctor` finds on each node; null: its agent has not said yet."""
        return {"nodes": {name: control.findings.get(name) for name in state.nodes.kept}}

    return app


def _add_health(app: FastAPI, is_ready: Callable[[], bool]) -> None:
    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """It runs."""
        return "ok"

    @app.get("/readyz", response_class=PlainTextResponse)
    async def readyz(response: Response) -> str:
        """It leads and has plans."""
        ready = is_ready()
        response.status_code = 200 if ready else 503
        return "ok" if ready else "not ready"


def _add_plan(app: FastAPI, state: ClusterState, control: Control) -> None:
    @app.get(
        "/v1/nodes/{node}/plan",
        dependencies=_TOKEN,
        response_model=NodePlan,
        responses={
            304: {"description": "the plan is still the one of If-None-Match"},
            404: {"model": _Detail, "description": "the agent does not know the controller's contract"},
            409: {"model": _Detail, "description": "the controller wants the node's inventory first"},
        },
    )
    async def plan(
        node: str,
        wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0,
        if_none_match: Annotated[str, Header()] = "",
    ) -> Response:
        """The plan of the agent's node; with `wait_s` the answer waits for one that is not If-None-Match."""
        until_s = time.monotonic() + wait_s
        while True:
            found = _plan_answer(state, control, node, if_none_match)
            left_s = until_s - time.monotonic()
            if found.status_code != 304 or left_s <= 0:
                return found
            await control.wait(node, left_s)


def _plan_answer(state: ClusterState, control: Control, node: str, known: str) -> Response:
    if node not in state.nodes.kept:
        return _detail(503, f"node {node} is not known yet")
    inventory = state.inventory_of(node)
    if inventory is None:
        return _detail(409, "send the inventory of this node first")
    message = control.message(node)
    if message is None and node in control.planned.outdated:
        return _detail(404, f"this controller speaks plan contract {CONTRACT}, the agent an older one")
    if message is None or message.inventory != inventory:
        return _detail(503, "the plan is not made yet")
    headers = {"ETag": message.etag, "Cache-Control": "no-store"}
    if message.etag == known:
        return Response(status_code=304, headers=headers)
    return Response(message.body, media_type="application/json", headers=headers)


def _add_messages(app: FastAPI, state: ClusterState, control: Control, names: NameBook) -> None:
    @app.put("/v1/nodes/{node}/inventory", status_code=204, dependencies=_TOKEN)
    async def inventory(node: str, found: InventoryMessage) -> Response:
        """What the agent's node is now; answered once its plan is made by it."""
        said = found.of(node)
        state.put_inventory(said)
        control.findings[node] = [each.model_dump() for each in found.findings]
        await control.planned_by(node, said, PLANNED_S)
        return Response(status_code=204)

    @app.post("/v1/names", response_model=Answers, dependencies=_TOKEN)
    async def ask(questions: Questions, request: Request) -> Response:
        """Whose addresses were: one answer per question, in their order.

        Described here; dispatcher.gate has NameBook.reply answer it, for speed.
        """
        answers = names.answers(request.scope["overhop.node"], questions.asked)
        body = Answers(names=answers).model_dump_json(exclude_defaults=True)
        return Response(body, media_type="application/json")


def _detail(status: int, text: str) -> Response:
    headers = {"Retry-After": "1"} if status == 503 else {}
    return JSONResponse({"detail": text}, status_code=status, headers=headers)


async def _wrong(request: Request, error: Exception) -> Response:  # noqa: ARG001  of FastAPI
    """Not with what was sent: it may hold what is nobody's business."""
    assert isinstance(error, RequestValidationError)
    lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5]]
    return _detail(422, "; ".join(lines))


async def _failed(request: Request, error: Exception) -> Response:  # noqa: ARG001  of FastAPI
    return _detail(500, f"the controller failed: {type(error).__name__}")
