# SPDX-License-Identifier: Apache-2.0
"""All of a controller: it follows the cluster, plans, and answers agents. Only one of several leads."""

import asyncio
import logging
import resource
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from agent.plan.contract import CONTRACT
from collector.cluster.api import Api, ApiError
from collector.cluster.cluster import Cluster
from collector.cluster.state import ClusterState, Part
from dispatcher.app import make_app
from dispatcher.control import Control
from dispatcher.drift_book import DriftBook
from dispatcher.gate import Gate
from dispatcher.identity import Identities, TokenReviews
from dispatcher.leader import Election
from dispatcher.names import NameBook
from dispatcher.policy import Policies

_log = logging.getLogger(__name__)

TIDY_S: Final = 10.0
CERTIFICATE_LOOK_S: Final = 10.0
MAX_CONNECTIONS: Final = 20_000
_MAX_HEADER_BYTES: Final = 32 << 10


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """How a controller runs. Without `certificate` it speaks plain HTTP."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    cluster: str = ""
    """Name of the cluster; empty: by the uid of kube-system."""
    namespace: str = "overhop"
    identity: str = "controller"
    """Of this one among those that want to lead."""
    policies: Policies = field(default_factory=Policies)
    people: Callable[[], str] = str
    """The token of people; empty: they do not come in."""
    identities: Identities | None = None
    """Whose tokens are whose; None: the Kubernetes API says so."""
    version: str = "0"


class Controller:
    """Start it and run it in one thread's event loop; `ask_end` is for any thread."""

    def __init__(self, api: Api, config: ControllerConfig) -> None:
        self.config = config
        self.state = ClusterState(config.cluster, on_change=self._changed)
        self.cluster = Cluster(api, self.state)
        self.control = Control(self.state, config.policies, self._knows)
        self.election = Election(api, config.namespace, config.identity, self._led)
        self.names = NameBook(self.state)
        self.started_s = time.time()
        identities = config.identities or TokenReviews(api, config.namespace, self.state.pods.kept.get)
        app: FastAPI = make_app(
            self.state,
            self.control,
            self.names,
            DriftBook(self.state),
            self.facts,
            lambda: self.is_ready,
            config.version,
        )
        direct = {("POST", "/v1/names"): self.names.reply}
        self.gate = Gate(app, identities, config.people, lambda: self.election.is_leader, direct)
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.gate,
                host=config.host,
                port=config.port,
                ssl_certfile=None if config.certificate is None else str(config.certificate),
                ssl_keyfile=None if config.key is None else str(config.key),
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                http="h11",
                ws="none",
                loop="asyncio",
                limit_concurrency=MAX_CONNECTIONS,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=2,
                h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
                backlog=4096,
            )
        )

    @property
    def is_ready(self) -> bool:
        """It leads, and has plans to give."""
        return self.election.is_leader and self.control.plannings > 0

    @property
    def port(self) -> int:
        """Where it listens; 0: not yet."""
        for server in getattr(self._server, "servers", ()):
            for each in server.sockets:
                return int(each.getsockname()[1])
        return 0

    def run(self) -> None:
        """Until SIGTERM, SIGINT or ask_end(). Raises OSError: it cannot listen there, no such certificate."""
        _raise_limit()
        asyncio.run(self._run())

    def ask_end(self) -> None:
        """End soon."""
        self._server.should_exit = True

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it says where it listens in colours
        chores = [loop.create_task(self._tidy()), loop.create_task(self._renew_certificate())]
        self.cluster.start()
        self.control.start(loop)
        self.election.start()
        try:
            await self._server.serve()
        finally:
            for each in chores:
                each.cancel()
            await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self.election.stop()
        self.control.stop()
        self.cluster.stop()

    async def _tidy(self) -> None:
        while True:
            if not self.state.cluster:
                with suppress(ApiError):
                    await asyncio.to_thread(self.cluster.identify)
                    self.control.changed("nodes")
            await asyncio.sleep(TIDY_S if self.state.cluster else 1)
            await asyncio.to_thread(self.state.pods.tidy)

    async def _renew_certificate(self) -> None:
        """A file that was replaced counts for connections from then on."""
        config = self.config
        if config.certificate is None:
            return
        before = _written_ns(config.certificate)
        while True:
            await asyncio.sleep(CERTIFICATE_LOOK_S)
            now = _written_ns(config.certificate)
            context = self._server.config.ssl
            if now in (before, 0) or context is None:
                continue
            before = now
            try:
                context.load_cert_chain(config.certificate, config.key)
            except (OSError, ssl.SSLError) as error:
                _log.error("the new certificate cannot be used", extra={"reason": str(error)})
            else:
                _log.info("new certificate")

    def _changed(self, part: Part) -> None:
        self.control.changed(part)

    def _led(self, leads: bool) -> None:
        """A new leader knows nothing of nodes but what their agents tell it from now on."""
        if leads:
            self.state.forget_inventories()

    def _knows(self) -> bool:
        known = {each.kind.name: each.wait(0) for each in self.cluster.reflectors}
        return known["nodes"] and known["namespaces"] and bool(self.state.cluster)

    def facts(self) -> Mapping[str, Any]:
        """For people: GET /v1/cluster."""
        snapshot = self.state.planning()
        planned = self.control.planned
        return {
            "cluster": self.state.cluster,
            "version": self.config.version,
            "contract": CONTRACT,
            "leader": self.election.holder,
            "nodes": {
                name: {
                    "is_ready": node.is_ready,
                    "has_agent": name in snapshot.inventories,
                    "plan": planned.plans[name].digest if name in planned.plans else "",
                    "waits": name in self.control.nodes_waiting,
                }
                for name, node in snapshot.nodes.items()
            },
            "outdated": dict(planned.outdated),
            "warnings": list(planned.warnings),
            "problems": self.cluster.problems
            | ({"election": self.election.problem} if self.election.problem else {}),
            "watched": {
                each.kind.name: {
                    "listed": each.counts.listed,
                    "watched": each.counts.watched,
                    "events": each.counts.events,
                    "failed": each.counts.failed,
                    "gone": each.counts.gone,
                    "undecodable": each.counts.undecodable,
                }
                for each in self.cluster.reflectors
            },
            "refused": dict(self.gate.counts),
            "names": dict(self.names.counts),
            "shared_addresses": {key: list(uids) for key, uids in self.state.shared_addresses().items()},
            "planning": {
                "count": self.control.plannings,
                "last_s": round(self.control.planned_in_s, 6),
                "most_s": round(self.control.most_s, 6),
            },
        }


def _written_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _raise_limit() -> None:
    """A connection per agent needs a descriptor each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, MAX_CONNECTIONS + 1000), hard), hard))
