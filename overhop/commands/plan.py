# SPDX-License-Identifier: Apache-2.0
"""`overhop plan`: what nodes would do, by a snapshot of a cluster and policies; and why."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from overhop import errors, output
from overhop.commands.cluster import Where, connected
from overhop.plan_view import explained_json, explained_lines, planned_json, planned_lines
from overhop.sources import ConfigError

if TYPE_CHECKING:
    from collector.snapshot import Pod, Snapshot
    from dispatcher.policy import Policies


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """Options of the command."""

    snapshot: Path | None
    """None: the cluster is asked."""
    where: Where
    policies: Path | None
    node: str | None
    why: str | None
    as_json: bool


def do_plan(options: PlanOptions) -> int:
    """Show plans, or what counts for a pod. Raises ConfigError, UsageError."""
    from dispatcher.planner import plan_all, why

    policies = _policies(options.policies)
    snapshot = _live(options.where) if options.snapshot is None else _snapshot(options.snapshot)
    if options.node is not None and options.node not in snapshot.nodes:
        place = options.snapshot or "the cluster"
        raise errors.UsageError(f"--node {options.node}: no such node in {place}")
    if options.why is not None:
        pod = _pod(snapshot, options)
        explained = why(snapshot, policies, pod.node, pod)
        if options.as_json:
            output.show_json(explained_json(explained))
        else:
            output.show_lines(explained_lines(options.why, explained))
        return errors.DONE
    planned = plan_all(snapshot, policies)
    unmatched = policies.unmatched(snapshot)
    if options.as_json:
        output.show_json(planned_json(planned, unmatched, options.node))
    else:
        output.show_lines(planned_lines(planned, unmatched, options.node))
    return errors.DONE


def _live(where: Where) -> "Snapshot":
    from overhop.cluster.live import live_snapshot

    api = connected(where)
    try:
        with output.patience("asking the Kubernetes API"):
            return live_snapshot(api)
    finally:
        api.close()


def _snapshot(file: Path) -> "Snapshot":
    from collector.snapshot_json import SnapshotError, parse_snapshot

    try:
        return parse_snapshot(file.read_bytes())
    except OSError as error:
        raise errors.UsageError(f"--snapshot {file}: {error.strerror}") from None
    except SnapshotError as error:
        raise errors.UsageError(f"--snapshot {file}: {error}") from None


def _policies(file: Path | None) -> "Policies":
    from dispatcher.policy import Policies, PolicyError, load_policies

    if file is None:
        return Policies()
    try:
        return load_policies(file)
    except PolicyError as error:
        raise ConfigError(error.problems) from None


def _pod(snapshot: "Snapshot", options: PlanOptions) -> "Pod":
    namespace, slash, name = (options.why or "").partition("/")
    if not slash or not name:
        raise errors.UsageError(f"--why {options.why}: give NAMESPACE/POD")
    found = [
        pod
        for pod in snapshot.pods.values()
        if (pod.namespace, pod.name) == (namespace, name) and options.node in (None, pod.node)
    ]
    if not found:
        where = "" if options.node is None else f" on node {options.node}"
        raise errors.UsageError(f"--why {options.why}: no such pod{where} in {options.snapshot}")
    if found[0].node not in snapshot.nodes:
        reason = f"its node {found[0].node!r} is not in {options.snapshot}"
        raise errors.UsageError(f"--why {options.why}: {reason}")
    return found[0]
