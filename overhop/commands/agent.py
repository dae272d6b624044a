# SPDX-License-Identifier: Apache-2.0
"""`overhop agent`: trace this node until stopped."""

import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import overhop
from overhop import errors
from overhop.config import Config, StoreSection
from overhop.controlled import control_of
from store.errors import StoreError
from store.influxdb.target import Target, read_secret

if TYPE_CHECKING:
    from agent.runtime import AgentConfig
    from agent.starting import Start
    from agent.storing.forwarding import ForwardConfig


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """Options of the command."""

    config: Config
    duration_s: float | None
    as_json: bool


class _Stop:
    """True once SIGTERM, SIGINT or SIGHUP came, or the time since the first question is over.

    A terminal that is closed ends the agent in order, unless it was started with nohup.
    """

    def __init__(self, duration_s: float | None) -> None:
        self.asked = False
        """A signal came."""
        self._duration_s = duration_s
        self._deadline_s: float | None = None
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._ask)

    def _ask(self, _number: int, _frame: object) -> None:
        self.asked = True

    def __call__(self) -> bool:
        if self._duration_s is not None and self._deadline_s is None:
            self._deadline_s = time.monotonic() + self._duration_s
        return self.asked or (self._deadline_s is not None and time.monotonic() >= self._deadline_s)


def do_agent(options: AgentOptions) -> int:
    """Run until a signal or the duration; then detach and say the totals.

    Raises UsageError if the server's token cannot be read; a server that is not there is no error, rows wait.
    """
    from agent.heap import keep_small

    keep_small()  # before numpy comes with the next imports
    from agent.loading.loader import LoadStopped
    from agent.starting import Start

    _require_token(options.config.store)
    agent_section = options.config.agent
    plan = None if agent_section.plan is None else str(agent_section.plan)
    stop = _Stop(
        options.duration_s
    )  # before anything is attached: a signal meanwhile must not leave it there
    try:
        with Start(plan, agent_section.nic, lambda: stop.asked, control_of(options.config)) as start:
            _trace(options, start, stop)
    except LoadStopped:
        pass  # nothing was attached, nothing counted
    return errors.DONE


def _trace(options: AgentOptions, start: "Start", stop: _Stop) -> None:
    """The compiler is at work meanwhile: now is the time to import what takes long."""
    from agent.ending import report
    from agent.hops.first_hops import FirstHops
    from agent.runtime import Agent

    first_hops = FirstHops() if options.as_json else None
    take = None if first_hops is None else first_hops.take
    with Agent(agent_config(options.config), start=start) as agent:
        agent.run(stop, take)
        totals = report(agent.finish(take))
    if first_hops is not None:
        from overhop import output  # with rich, 3 MB that nobody else here needs

        hops = {kind: asdict(found) for kind, found in first_hops.by_kind().items()}
        output.show_json(totals | {"hops": hops})


def _require_token(store: StoreSection) -> None:
    if not isinstance(store.url, Target) or store.token_file is None:
        return
    try:
        read_secret(store.token_file)
    except StoreError as error:
        raise errors.UsageError(str(error)) from None


def _forward_config(store: StoreSection) -> "ForwardConfig | None":
    """What goes to a server; None: nothing does."""
    from agent.storing.forwarding import ForwardConfig

    if not isinstance(store.url, Target):
        return None
    assert store.spool is not None
    return ForwardConfig(
        target=str(store.url),
        token_file=store.token_file,
        ca_file=store.ca_file,
        spool=store.spool,
        spool_bytes=store.spool_bytes,
        spool_age_s=store.spool_age_s,
        rows_per_s=store.send_rows_per_s,
    )


def agent_config(settings: Config) -> "AgentConfig":
    """What the configuration means for the agent."""
    from agent.runtime import AgentConfig

    listen = settings.metrics.listen
    return AgentConfig(
        plan_path=None if settings.agent.plan is None else str(settings.agent.plan),
        nic=settings.agent.nic,
        mode=settings.agent.attach,
        node=settings.node,
        cluster=settings.cluster,
        store=settings.store.url if isinstance(settings.store.url, Path) else None,
        forward=_forward_config(settings.store),
        metrics=None if listen is None else (listen.host, listen.port),
        version=overhop.__version__,
    )
