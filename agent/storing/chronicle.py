# SPDX-License-Identifier: Apache-2.0
"""What the agent tells the table `event` of itself and its node, in the words of docs/store.md."""

import os
import time
from collections.abc import Callable, Mapping, Sequence

from agent import capabilities
from agent.hooks.points import Hook
from agent.plan.model import Plan
from agent.reading.counters import LOSSES
from agent.storing.child import ChildStatus
from agent.storing.events import Event, Events
from agent.storing.presence import Predecessor


class Chronicle:
    """Each method says what is the case now; only changes become events. `clock`: ns since 1970."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._events = Events()
        self._is_started = False
        self._is_ahead = False
        self._is_store_clock_off = False
        self._lost: Mapping[str, int] = {}
        self._lost_looked_ns = clock()

    def take(self, mono_ns: int) -> Sequence[Event]:
        """Events that are due at `mono_ns` (CLOCK_MONOTONIC)."""
        return self._events.take(mono_ns)

    def started(self, about: str) -> None:
        """The agent traces; `about`: program and source."""
        self._state("agent", "started", f"pid {os.getpid()}, {about}")
        self._events.renamed("agent", "running")
        self._is_started = True
        lacking = capabilities.missing()
        state = f"without {', '.join(lacking)}" if lacking else "complete"
        self._state("capabilities", state, f"Linux {os.uname().release}")

    def stopped(self) -> None:
        """A good end."""
        self._state("agent", "stopped", f"pid {os.getpid()}")

    def failed(self) -> None:
        """The end by an error; of an agent that never traced there is nothing to say."""
        if self._is_started:
            self._state("agent", "failed", f"pid {os.getpid()}")

    def gap(self, before: Predecessor) -> None:
        """An agent was killed, and nobody measured from `since` on until now."""
        self._events.happened(
            "gap", "agent killed", before.last_sign_ns, f"pid {before.pid} did not end by itself"
        )

    def plan_followed(self, plan: Plan, spec: str) -> None:
        """This plan is the plan."""
        self._state("plan", "followed", f"nic {', '.join(plan.nic)}, program {spec}")

    def plan_refused(self, reason: str) -> None:
        """The old plan stays."""
        self._state("plan", "refused", reason)

    def vports(self, count: int) -> None:
        """How many are traced."""
        self._state("vports", str(count))

    def nics_missing(self, names: Sequence[str]) -> None:
        """NICs that are not there."""
        self._state("nic", f"{', '.join(sorted(names))} missing" if names else "there")

    def not_traced(self, why: Mapping[str, str]) -> None:
        """Interfaces that cannot be traced, and why."""
        detail = "; ".join(f"{name}: {reason}" for name, reason in sorted(why.items()))
        self._state("attach", f"{len(why)} failed" if why else "complete", detail)

    def shadows(self, names: Mapping[Hook, str], ifnames: Mapping[int, str]) -> None:
        """Who runs before our programs, by hook."""
        places = sorted(
            f"{ifnames.get(hook.ifindex, hook.ifindex)} {hook.point.label}: {name}"
            for hook, name in names.items()
        )
        state = f"by {', '.join(sorted(set(names.values())))}" if names else "no"
        self._state("shadowed", state, "; ".join(places))

    def counters(self, counters: Mapping[str, int]) -> None:
        """Hops that were lost since the last look."""
        now_ns = self._clock()
        more = {name: counters[name] - self._lost.get(name, 0) for name in LOSSES}
        more = {name: count for name, count in more.items() if count > 0}
        if more:
            detail = ", ".join(f"{name} {count}" for name, count in more.items())
            self._events.happened("lost", str(sum(more.values())), self._lost_looked_ns, detail)
        self._lost = {name: counters[name] for name in LOSSES}
        self._lost_looked_ns = now_ns

    def clock_stepped(self, by_ns: int) -> None:
        """Real time was set."""
        self._events.happened("clock", "stepped", self._clock(), f"by {by_ns / 1e9:+.6f} s")

    def store(self, error: str | None, dropped_rows: int) -> None:
        """Why rows cannot be written (None: they can); how many were lost so far for want of it."""
        if error is not None:
            self._state("store", "trouble", error)
            return
        self._state("store", "good", f"{dropped_rows} rows dropped since the start" if dropped_rows else "")

    def store_clock(self, off_ns: int) -> None:
        """How far the server's clock is from ours; as long as they agree there is nothing to say."""
        if off_ns and not self._is_store_clock_off:
            self._state("store clock", "off", f"the server's is {off_ns / 1e9:+,.0f} s from ours")
        elif self._is_store_clock_off and not off_ns:
            self._state("store clock", "good")
        self._is_store_clock_off = bool(off_ns)

    def row_times(self, ahead_ns: int) -> None:
        """How far they are ahead of the clock; as long as they never were there is nothing to say."""
        if ahead_ns and not self._is_ahead:
            self._state("row times", "ahead", f"by {ahead_ns / 1e9:,.0f} s")
        elif self._is_ahead and not ahead_ns:
            self._state("row times", "good")
        self._is_ahead = bool(ahead_ns)

    def child(self, what: str, status: ChildStatus) -> None:
        """Who makes Parquet of the segments."""
        state = "elsewhere" if status.elsewhere else "running" if status.pid else "ended"
        self._state(what, state, f"ended {status.deaths} times" if status.deaths else "")

    def _state(self, what: str, state: str, detail: str = "") -> None:
        self._events.state(what, state, self._clock(), detail)
