# SPDX-License-Identifier: Apache-2.0
"""After the result: the lab stays up under a low load, traced and stored, until Ctrl-C."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event

from overhop.demo.agents import NodeAgent
from overhop.demo.keeping import Keeping
from overhop.demo.scene import Scene
from overhop.lab import RunningLoad

RATE_HZ = 5.0
_AT_ONCE = 36_000
"""Requests of one load, two hours' worth; then the next one starts."""
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Invitation:
    """What somebody can try in another terminal."""

    store: str
    entrance: str
    """What stands before a command that asks the store."""
    options: str
    """And what stands behind it, besides the store."""
    trace_id: str
    """For a request by hand."""
    outside: str
    """A command that sends it from outside the cluster."""
    inside: str
    """A command that sends one from a pod."""


def invitation(scene: Scene, keeping: Keeping) -> Invitation:
    """Commands for this lab."""
    trace_id = secrets.token_hex(16)
    outside, inside = (
        f"nsenter --net={call.host.netns.path} curl -s "
        f"-H 'traceparent: 00-{trace_id}-{secrets.token_hex(8)}-01' '{call.url}'"
        for call in (scene.outside, scene.inside)
    )
    return Invitation(str(keeping.place), keeping.entrance, keeping.options, trace_id, outside, inside)


def serve(scene: Scene, agents: Sequence[NodeAgent]) -> None:
    """Send requests until Ctrl-C. Raises DemoError once an agent has ended."""
    try:
        load = _start(scene)
        while True:
            Event().wait(_LOOK_S)
            for agent in agents:
                agent.require_running()
            if not load.running:
                load = _start(scene)
    except KeyboardInterrupt:
        return


def _start(scene: Scene) -> RunningLoad:
    trip = scene.trips[0]
    return trip.host.start_http(
        str(trip.route.address),
        trip.route.port,
        path=trip.path,
        requests=_AT_ONCE,
        rate_hz=RATE_HZ,
        timeout_s=2 * _AT_ONCE / RATE_HZ,
    )
