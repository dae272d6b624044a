# SPDX-License-Identifier: Apache-2.0
"""The agent's loop: read the ring, serve those who ask, follow interfaces and the plan."""

import logging
import os
import select
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agent.clock import Clock, boot_id
from agent.datapath import Datapath, Mode
from agent.ending import Ending
from agent.following import Following
from agent.hooks.points import wanted
from agent.hooks.sweep import sweep
from agent.hops.intake import Intake
from agent.hops.totals import HopTotals
from agent.metrics.source import MetricsSource, open_metrics
from agent.network.links import links
from agent.network.nic import DiscoveryError
from agent.plan.changes import PlanChanges
from agent.plan.model import Plan
from agent.reading.polling import LEAST_S, next_wait_s
from agent.reading.ring import Records
from agent.reading.slots import SlotsLockedError
from agent.sockets import unix_socket
from agent.sockets.record import Recorder, RecordingHeader, RecordServer
from agent.sockets.watch import AgentFacts, VportFacts, WatchServer
from agent.starting import Start
from agent.storing.chronicle import Chronicle
from agent.storing.forwarding import ForwardConfig
from agent.storing.output import Output
from agent.storing.store import StoreOutput, server_output
from bpf.spec import source_digest

if TYPE_CHECKING:
    from agent.control.control import Control

_log = logging.getLogger(__name__)

ATTACH_TURN_NS = 200_000_000
"""How long a turn may attach and detach, reading the ring in between, before others get their turn."""
START_LAG_MAX = 0.25
"""How full the ring may get while the first programs are attached, before it is read."""
SOCKETS_NS = 60_000_000
"""How often clients of a socket are served: looking costs as much as reading the ring."""
PLAN_LOOK_NS = 500_000_000
CONTROLLED_LOOK_NS = 40_000_000
"""How often to look for a pod's interface that is new, or a plan that is."""
CHECK_NS = 60_000_000_000
"""How often the agent looks whether it is still attached, and first."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """How one agent runs. Without `plan_path` the plan is made from the interfaces."""

    plan_path: str | None = None
    nic: str | None = None
    """NIC to use where there is no plan file."""
    mode: Mode = "auto"
    node: str = field(default_factory=lambda: os.uname().nodename)
    cluster: str = "local"
    store: Path | None = None
    """Directory of the embedded store; None: there is none."""
    forward: ForwardConfig | None = None
    """The server that rows go to instead; with neither nothing is kept."""
    metrics: tuple[str, int] | None = None
    """IP address and port of /metrics; None: there is none."""
    version: str = ""
    """Of the release, for /metrics."""

    @property
    def keeps_rows(self) -> bool:
        """Whether hops are stored anywhere."""
        return self.store is not None or self.forward is not None


class Agent:
    """One node's agent in the network namespace of the calling thread.

    `stop` is asked while the programs are loaded: once it is true LoadStopped is raised within a second.
    `start`: what was begun already (with the same plan and NIC); it is the agent's from now on.
    Raises AlreadyRunning, PlanError, DiscoveryError, StoreError, LoaderError, AttachError, OSError when made;
    then nothing of it is left. As a context manager it takes its programs away at the end.
    """

    def __init__(
        self,
        config: AgentConfig,
        stop: Callable[[], bool] = lambda: False,
        start: Start | None = None,
    ) -> None:
        self.config = config
        self._open = ExitStack()
        with self._open as stack:
            start = stack.enter_context(start or Start(config.plan_path, config.nic, stop))
            for removed in sweep(start.lock):
                _log.warning("removed what a killed agent left", extra={"what": removed})
            plan = start.plan
            _require_nics(plan)
            self._source = source_digest()
            self._clock = Clock()
            self._chronicle = Chronicle()
            totals = HopTotals()
            control = start.control
            self._intake = Intake(
                totals=totals if config.metrics is not None else None,
                has_rows=config.keeps_rows,
                asks=None if control is None else control.asker,
            )
            self._output = self._open_output(config, config.cluster if control is None else control.cluster)
            if self._output is not None:
                stack.callback(lambda output: output.close(time.monotonic_ns()), self._output)
            tai_ns = self._clock.offset.tai_offset_ns
            self.datapath = Datapath(plan.spec(), start.programs, config.mode, tai_ns)
            stack.callback(self.datapath.close)
            self._recorder = Recorder(self._recording_header)
            stack.callback(self._recorder.close)
            self._records = RecordServer(unix_socket.default_path("record"), self._recorder)
            stack.callback(self._records.close)
            self._watchers = WatchServer(unix_socket.default_path("watch"), self.facts, self._intake.rows)
            stack.callback(self._watchers.close)
            self._metrics = open_metrics(config.metrics, self._metrics_source(totals, control))
            if self._metrics is not None:
                stack.callback(self._metrics.close)
            self._waiting = 0
            self._wait_s, self._last_read_ns = LEAST_S, time.monotonic_ns()
            self._is_running = self._is_called = False
            self._next_sockets_ns = self._next_plan_look_ns = self._next_check_ns = 0
            self._plan_look_ns = PLAN_LOOK_NS if control is None else CONTROLLED_LOOK_NS
            self._plan_changes = PlanChanges(
                start.plan_file, self.datapath.load, self._chronicle.plan_refused
            )
            stack.callback(self._plan_changes.close)
            self._following = Following(start.watch, self.datapath, self._chronicle, self._intake)
            self._following.use(start.base, plan)
            while not self._following.is_settled:
                self._follow_links(None)
            self._say_start()
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the programs away, end the recording, let the next agent in."""
        self._open.close()

    def run(self, stop: Callable[[], bool], take: Callable[[Records], None] | None = None) -> None:
        """Work until `stop()`, asked each 50 ms at least. `take` gets every batch of records that has any."""
        self._is_running = True
        waiter = select.poll()
        for source in (self._following, self._records, self._watchers):
            waiter.register(source.fileno(), select.POLLIN)
        while not stop():
            ready = {descriptor for descriptor, _ in waiter.poll(self._wait_s * 1e3)}
            if self._following.fileno() in ready:
                self._following.hear()
            self._is_called |= not ready <= {self._following.fileno()}
            self._turn(time.monotonic_ns(), take)

    def finish(self, take: Callable[[Records], None] | None = None) -> Ending:
        """Detach, read the rest of the ring, store the rest, and say the totals."""
        self.datapath.detach_all(lambda: self._deliver(self.datapath.read(), take))
        while len(batch := self.datapath.read()):
            self._deliver(batch, take)
        counters = self.counters()
        if self._output is None:
            return Ending(counters, None)
        self._output.finish(time.monotonic_ns(), counters)
        return Ending(counters, self._output.facts())

    def counters(self) -> dict[str, int]:
        """Totals since the start, `waiting` and `swapped` with them."""
        try:
            self._waiting = self.datapath.waiting()
        except SlotsLockedError as error:  # a CPU of a virtual machine stands still: the last number is good
            _log.warning("cannot count the stamps that wait", extra={"reason": str(error)})
        return self.datapath.counters() | {"waiting": self._waiting, "swapped": self.datapath.swapped}

    def facts(self) -> AgentFacts:
        """What the agent says of itself."""
        names, nic = self._following.names, self._following.plan.nic
        vports = tuple(
            VportFacts(names[ifindex], *self.datapath.unreadable(ifindex), self._intake.requests_of(ifindex))
            for ifindex in self.datapath.vports
        )
        stored = None if self._output is None else self._output.facts()
        window = self.datapath.spec.window
        return AgentFacts(os.getpid(), nic, vports, self.counters(), stored, self.config.node, window)

    def _open_output(self, config: AgentConfig, cluster: str) -> Output | None:
        if config.forward is not None:
            sink = server_output(config.forward, cluster, config.node)
        elif config.store is not None:
            sink = StoreOutput(config.store, cluster, config.node)
        else:
            return None
        if sink.predecessor is not None:
            _log.warning("the agent before was killed", extra={"pid": sink.predecessor.pid})
            self._chronicle.gap(sink.predecessor)
        now_ns = time.monotonic_ns()
        return Output(sink, self._intake, self._chronicle, self._clock, boot_id(), now_ns)

    def _metrics_source(self, totals: HopTotals, control: "Control | None") -> MetricsSource:
        return MetricsSource(
            self.config.version,
            self._source,
            self.datapath,
            self._intake,
            totals,
            self._output,
            self.counters,
            control,
        )

    def _turn(self, now_ns: int, take: Callable[[Records], None] | None) -> None:
        batch = self.datapath.read()
        elapsed_s = (now_ns - self._last_read_ns) / 1e9
        self._wait_s = next_wait_s(len(batch), elapsed_s, self.datapath.spec.ring_bytes)
        self._last_read_ns = now_ns
        self._deliver(batch, take)
        self._follow_clock(now_ns)
        if self._output is not None:
            self._output.poll(now_ns, self.datapath.counters)
        self._serve(now_ns)
        if not self._following.is_settled:
            self._follow_links(take)
        if self._plan_changes.is_pending:
            self._follow_plan(take)
        elif now_ns >= self._next_plan_look_ns:
            self._next_plan_look_ns = now_ns + self._plan_look_ns
            self._plan_changes.look(self.datapath.spec)
        if now_ns >= self._next_check_ns:
            self._next_check_ns = now_ns + CHECK_NS
            self._following.check()

    def _serve(self, now_ns: int) -> None:
        """Those who ask: a new one at once, those who are there now and then."""
        if self._metrics is not None:
            self._metrics.poll()
        has_clients = self._records.has_clients or self._watchers.has_clients
        if not self._is_called and not (has_clients and now_ns >= self._next_sockets_ns):
            return
        self._is_called = False
        self._next_sockets_ns = now_ns + SOCKETS_NS
        self._records.poll()
        self._watchers.poll(now_ns)

    def _deliver(self, batch: Records, take: Callable[[Records], None] | None) -> None:
        self._recorder.write(batch)
        if not len(batch):
            return
        self._watchers.add(batch)
        self._intake.add(batch)
        if take is not None:
            take(batch)

    def _follow_links(self, take: Callable[[Records], None] | None) -> None:
        self._following.step(self._pace(take), is_start=not self._is_running)
        self._intake.keep_vports(self.datapath.vports)

    def _pace(self, take: Callable[[Records], None] | None) -> Callable[[], bool]:
        """Reads the ring between two programs, as long as this turn may last."""
        end_ns = time.monotonic_ns() + ATTACH_TURN_NS
        lag_max = 0.0 if self._is_running else START_LAG_MAX

        def go_on() -> bool:
            if self.datapath.lag > lag_max:
                self._deliver(self.datapath.read(), take)
            return time.monotonic_ns() < end_ns

        return go_on

    def _follow_plan(self, take: Callable[[Records], None] | None) -> None:
        """Take the new plan, once its programs are loaded; requests go on meanwhile."""
        new = self._plan_changes.take()
        if new is None:
            return
        spec = new.plan.spec()
        if new.programs is not None:
            self._deliver(self.datapath.swap(spec, new.programs), take)
        self._following.use(new.base, new.plan)
        self._chronicle.plan_followed(new.plan, spec.digest())
        _log.info("new plan", extra={"nic": ", ".join(new.plan.nic), "spec": spec.digest()})

    def _follow_clock(self, now_ns: int) -> None:
        if self._clock.refresh(now_ns):
            _log.warning("real time was set", extra={"by_ns": self._clock.last_step_ns})
            self._chronicle.clock_stepped(self._clock.last_step_ns)

    def _recording_header(self) -> RecordingHeader:
        return RecordingHeader(
            self.datapath.spec.digest(), self._source, self.config.node, boot_id(), self._clock.offset
        )

    def _say_start(self) -> None:
        modes = sorted({one.mode for one in self.datapath.hooks.values()})
        about = f"program {self.datapath.spec.digest()}, source {self._source}, {', '.join(modes)}"
        self._chronicle.started(about)
        self._chronicle.plan_followed(self._following.plan, self.datapath.spec.digest())
        _log.info(
            "tracing",
            extra={
                "nic": ", ".join(self._following.plan.nic),
                "vports": len(self.datapath.vports),
                "attached": ", ".join(modes),
                "spec": self.datapath.spec.digest(),
                "source": self._source,
            },
        )


def _require_nics(plan: Plan) -> None:
    """At the start a NIC that is not there is an error, not something to wait for."""
    missing = wanted(plan, links()).missing_nics
    if missing:
        raise DiscoveryError(f"nic: {', '.join(missing)}: no such interface: see `ip link`")
