# SPDX-License-Identifier: Apache-2.0
"""The outcome of the demo as plain data, and what is wrong with it. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from overhop.demo.found import FOUND_BY, Found, Route, Sent
from overhop.demo.outcome import Account, Outcome
from overhop.demo.scene import endpoint
from overhop.demo.stored import KeptHops
from store.spool.facts import SpoolFacts

TRACEPARENT_BYTES = len("traceparent: ") + 55 + 1
"""The field and the CR that ends it: all of it must lie within the window (docs/datapath.md)."""


@dataclass(frozen=True, slots=True)
class RouteFound:
    """Requests of one route."""

    route: Route
    requests: int
    found: int


def as_json(outcome: Outcome) -> dict[str, object]:
    """Everything as plain data (docs/cli.md)."""
    counters = {node: dict(account.counters) for node, account in outcome.accounts.items()}
    imbalances = {node: dict(account.imbalances) for node, account in outcome.accounts.items()}
    return {
        "cni": outcome.topology["cni"],
        "sidecars": outcome.sidecar_offset_bytes is not None,
        "relocation": outcome.relocation,
        "window": outcome.window,
        "requests": sum(load.sent.requests for load in outcome.found),
        "traces_found": sum(load.found for load in outcome.found),
        "found_by": FOUND_BY,
        "hops": {kind: asdict(hops) for kind, hops in outcome.hops.items()},
        "hops_expected": hops_expected(outcome.found),
        "hops_recorded": dict(outcome.hops_recorded),
        "routes": [_route(route) for route in routes(outcome.found)],
        "contexts": contexts(outcome.found),
        "took": [_took(load.sent) for load in outcome.found],
        "sights": [asdict(sight) for sight in outcome.sights],
        "counters": {"nodes": counters, "total": _summed(counters.values())},
        "imbalances": {"nodes": imbalances, "total": _summed(imbalances.values())},
        "stored": {
            "agents": {node: asdict(account.stored) for node, account in outcome.accounts.items()},
            "read_back": {node: asdict(kept) for node, kept in outcome.stored.nodes.items()},
            "path": outcome.store or None,
        },
        "series": [asdict(series) for series in outcome.stored.series],
        "trace": {"trace_id": outcome.trace_id, "hops": [asdict(hop) for hop in outcome.trace]},
        "topology": dict(outcome.topology),
        "steps_s": {step: round(took_s, 3) for step, took_s in outcome.steps_s.items()},
    }


def problems(outcome: Outcome) -> list[str]:
    """What a demo must not show; empty if all is well."""
    wrong = [
        f"{load.sent.route.name}, {load.sent.context.label}: {load.found} of {load.sent.requests} requests"
        " have all their hops"
        for load in outcome.found
        if load.found != load.sent.requests
    ]
    if wrong and (line := window_line(outcome)):
        wrong.append(line)
    for node, account in outcome.accounts.items():
        wrong += [
            f"{node}: {name} is {off:+d} off its parts" for name, off in account.imbalances.items() if off
        ]
        records, recorded = account.counters["records"], outcome.hops_recorded[node]
        if records != recorded:
            wrong.append(f"{node}: {recorded} of {records} hops were recorded")
        wrong += _not_stored(node, account, outcome.stored.nodes[node])
    return wrong


def _not_stored(node: str, account: Account, kept: KeptHops) -> list[str]:
    """What the agent says it stored and the store does not give back."""
    said = account.stored
    pairs = (("hops", said.hops + said.retransmitted, kept.hops), ("samples", said.samples, kept.samples))
    return [
        *(f"{node}: the store has {back} of {put} {name}" for name, put, back in pairs if put != back),
        *(f"{node}: {count} rows of {table} dropped" for table, count in said.dropped.items() if count),
        *_not_sent(node, said.spool),
    ]


def _not_sent(node: str, spool: SpoolFacts | None) -> list[str]:
    """Rows that are in the spool still, or fell out of it."""
    if spool is None:
        return []
    lost = [f"{count} rows fell out of its spool: {why}" for why, count in spool.dropped.items() if count]
    waiting = sum(spool.waiting.values())
    why = spool.error or "the agent ended too soon"
    left = [f"{waiting} rows wait in its spool: {why}"] if waiting else []
    return [f"{node}: {line}" for line in (*lost, *left)]


def window_line(outcome: Outcome) -> str:
    """Why contexts were not found, if it is for the window; else empty."""
    exceeded = sum(sight.window_exceeded for sight in outcome.sights)
    if not exceeded:
        return ""
    hops = sum(sight.hops for sight in outcome.sights)
    line = (
        f"in {exceeded:,} of {hops:,} hops the {outcome.window:,} bytes searched (--window) hold no context"
    )
    at = outcome.sidecar_offset_bytes
    if at is None or at + TRACEPARENT_BYTES <= outcome.window:
        return line
    place = "behind all other headers" if outcome.relocation == "off" else "behind host"
    return f"{line}: a sidecar writes it {place}, here at byte {at}"


def hops_expected(found: Sequence[Found]) -> int:
    """How many hops the requests must have."""
    return sum(load.sent.requests * len(load.sent.route.stops) for load in found)


def routes(found: Sequence[Found]) -> list[RouteFound]:
    """One entry per route, all contexts together, in the order of their first requests."""
    return [
        RouteFound(
            route,
            sum(load.sent.requests for load in found if load.sent.route == route),
            sum(load.found for load in found if load.sent.route == route),
        )
        for route in dict.fromkeys(load.sent.route for load in found)
    ]


def contexts(found: Sequence[Found]) -> dict[str, dict[str, int]]:
    """`requests` and `found` of each kind of context that was sent."""
    contexts: dict[str, dict[str, int]] = {}
    for load in found:
        entry = contexts.setdefault(load.sent.context.label, {"requests": 0, "found": 0})
        entry["requests"] += load.sent.requests
        entry["found"] += load.found
    return contexts


def _route(entry: RouteFound) -> dict[str, object]:
    route = entry.route
    return {
        "route": route.name,
        "from": route.source,
        "to": route.target,
        "calls": endpoint(route.address, route.port),
        "hops": [f"{node} {kind}" for node, kind in route.stops],
        "requests": entry.requests,
        "found": entry.found,
    }


def _took(sent: Sent) -> dict[str, object]:
    """How long the requests of one load took for their client."""
    took = {} if sent.took is None else asdict(sent.took)
    return {"route": sent.route.name, "context": sent.context.label, "requests": sent.requests, **took}


def _summed(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)
