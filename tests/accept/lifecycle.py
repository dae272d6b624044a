# SPDX-License-Identifier: Apache-2.0
"""kill -9, restart, SIGTERM, a second agent: requests go on, and nothing is left or doubled."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from overhop.lab import Lab, Node, Pod
from tests.accept import kernel_state
from tests.accept.agents import AgentProcess
from tests.accept.foreign import Foreign, foreign
from tests.accept.kernel_state import Held
from tests.accept.traffic import SteadyLoad
from tests.accept.verdict import Verdict

NIC = "eth0"
NODE_PORT = 8080
"""Of a server in the node's own network: a request from a pod to it passes only its first point."""
HOPS_BETWEEN = 300
FREEING_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Stage:
    """A node n1 with a client and a quiet pod, a server on the other node."""

    lab: Lab
    node: Node
    client: Pod
    quiet: Pod
    server: Pod
    directory: Path

    @property
    def vports(self) -> list[str]:
        """Names of the interfaces of n1's pods."""
        return [pod.vport for pod in self.node.pods]


@contextmanager
def stage() -> Iterator[Stage]:
    """The lab of the hardiness scenarios, and a directory for the agent's files."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="overhop-accept-")))
        lab = stack.enter_context(Lab.make())
        n1, n2 = lab.nodes
        client, quiet, server = n1.pod("client"), n1.pod("quiet"), n2.pod("server")
        server.serve_http(80)
        n1.serve_http(NODE_PORT)
        yield Stage(lab, n1, client, quiet, server, directory)


def lifecycle(place: Stage, mode: str, rate_hz: float) -> Verdict:
    """Everything that happens to an agent in its life, while requests and somebody else's programs go on."""
    verdict = Verdict(f"lifecycle {mode}")
    before = kernel_state.tc_text(place.node)
    with foreign(place.node, place.quiet) as others:
        beside = kernel_state.tc_text(place.node)
        others.check(verdict, "before")
        with (
            SteadyLoad(place.client, place.server, rate_hz) as load,
            AgentProcess(place.node, place.directory, arguments=("--attach", mode)) as agent,
        ):
            first = Held.by(agent.pid)
            _is_tracing(verdict, place, agent, others, "traced")
            agent.await_records(HOPS_BETWEEN)
            agent.kill()
            others.check(verdict, "killed")
            verdict.numbers["restart_s"] = round(agent.start(), 2)
            _is_tracing(verdict, place, agent, others, "restarted")
            verdict.equal("left of the killed agent", first.await_gone(FREEING_TIMEOUT_S), [])
            refused_second(verdict, agent)
            agent.await_records(HOPS_BETWEEN)
            second = Held.by(agent.pid)
            totals = agent.terminate()
            others.check(verdict, "terminated")
            verdict.equal("left of the terminated agent", second.await_gone(FREEING_TIMEOUT_S), [])
        load.check(verdict)
        verdict.equal("totals", {key: n for key, n in totals["imbalances"].items() if n}, {})
        verdict.equal("tc beside the others", kernel_state.tc_text(place.node), beside)
    verdict.equal("tc afterwards", kernel_state.tc_text(place.node), before)
    verdict.equal("hooks afterwards", dict(kernel_state.hooks(place.node)), {})
    return verdict


def _is_tracing(verdict: Verdict, place: Stage, agent: AgentProcess, others: Foreign, phase: str) -> None:
    found = kernel_state.hooks(place.node, but=others.programs)
    verdict.equal(f"{phase}: programs", dict(found), dict(kernel_state.one_set(NIC, place.vports)))
    verdict.equal(f"{phase}: hops", agent.await_records(HOPS_BETWEEN) >= HOPS_BETWEEN, True)
    others.check(verdict, phase)


def refused_second(verdict: Verdict, agent: AgentProcess) -> None:
    """A second agent in the same network namespace says who is there, in one line, and ends with 1."""
    with agent.node.netns.entered():
        done = subprocess.run(
            (sys.executable, "-m", "overhop", "agent"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    said = (
        "overhop: lock this network namespace: an overhop agent is already running "
        f"(pid {agent.pid}): stop it first\n"
    )
    verdict.equal("second agent", (done.returncode, done.stdout, done.stderr), (1, "", said))
