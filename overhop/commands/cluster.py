# SPDX-License-Identifier: Apache-2.0
"""`overhop cluster install | status | uninstall` (docs/kubernetes.md)."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from overhop import errors, output

if TYPE_CHECKING:
    from collector.cluster.api import Api
    from collector.drift import Drift
    from collector.node.nat import NatRules
    from collector.snapshot import Snapshot
    from overhop.cluster.install import NodeState

_MAX_TOKEN_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster, and where in it."""

    kubeconfig: Path | None
    context: str | None
    namespace: str


@dataclass(frozen=True, slots=True)
class InstallOptions:
    """Options of the command."""

    where: Where
    image: str
    store: str | None
    token_file: Path | None
    policies: Path | None
    node_cidrs: Sequence[str]
    has_cri: bool
    has_influxdb: bool
    dry_run: bool
    wait_s: float
    as_json: bool


def do_install(options: InstallOptions) -> int:
    """Apply everything and wait. Raises UsageError, ConfigError, OSError."""
    from collector.cluster.api import ApiError
    from overhop.cluster import install
    from overhop.cluster.manifests import Wish, without_data

    policies, token = _checked_policies(options.policies), _token(options.token_file)
    api = connected(options.where)
    try:
        store = options.store
        if store is None and options.has_influxdb and not options.dry_run:
            store = install.trial_store(api, options.where.namespace)
        wish = Wish(
            options.image,
            options.where.namespace,
            store,
            _cidrs(options.node_cidrs) or install.node_cidrs(api),
            policies,
            options.has_cri,
            options.has_influxdb,
        )
        objects = install.objects_of(api, wish, token)
        if options.dry_run:
            _show_yaml(without_data(objects))
            return errors.DONE
        install.apply(api, objects, _say(options.as_json))
        lacking = install.wait_until_ready(api, options.where.namespace, options.wait_s)
    except ApiError as error:
        raise errors.UsageError(_api_error(error)) from None
    finally:
        api.close()
    if options.as_json:
        output.show_json({"installed": len(objects), "not_ready": lacking})
    elif lacking:
        output.show_lines([f"not ready after {options.wait_s:g} s: {', '.join(lacking)}"])
    return errors.FAILED if lacking else errors.DONE


def do_status(where: Where, *, as_json: bool) -> int:
    """Show it. Exit code 1 if something is missing. Raises UsageError."""
    from collector.cluster.api import ApiError
    from overhop.cluster import install

    api = connected(where)
    try:
        states = install.status(api, where.namespace)
        controllers = install.controllers(api, where.namespace)
    except ApiError as error:
        raise errors.UsageError(_api_error(error)) from None
    finally:
        api.close()
    is_good = all(each.is_ready for each in states) and any(ready for _, ready in controllers)
    if as_json:
        nodes = [asdict(each) for each in states]
        listed = [{"pod": name, "leads": ready} for name, ready in controllers]
        output.show_json({"controllers": listed, "nodes": nodes})
    else:
        _show_status(controllers, states)
    return errors.DONE if is_good else errors.FAILED


def do_uninstall(where: Where, wait_s: float, *, as_json: bool) -> int:
    """Clean nodes, remove everything. Exit code 1 if a node was not reached. Raises UsageError."""
    from collector.cluster.api import ApiError
    from overhop.cluster import install

    api = connected(where)
    try:
        left = install.uninstall(api, where.namespace, wait_s, _say(as_json))
    except ApiError as error:
        raise errors.UsageError(_api_error(error)) from None
    finally:
        api.close()
    if as_json:
        output.show_json({"not_reached": left})
    elif left:
        output.show_lines([f"not reached, run `overhop clean` there: {', '.join(left)}"])
    return errors.FAILED if left else errors.DONE


def do_doctor(where: Where, *, as_json: bool) -> int:
    """What is seen on each node and in total. Exit code 1: a node is not traced. Raises UsageError."""
    from collector.cluster.api import ApiError
    from overhop.cluster import doctor

    api = connected(where)
    try:
        nodes = doctor.ask(api, where.namespace, "/v1/cluster/doctor")["nodes"]
    except ApiError as error:
        raise errors.UsageError(_api_error(error)) from None
    finally:
        api.close()
    blind, found = doctor.blind(nodes), doctor.together(nodes)
    if as_json:
        output.show_json({"blind": blind, "nodes": nodes, "findings": [asdict(each) for each in found]})
        return errors.FAILED if blind else errors.DONE
    table = output.plain_table(("verdict", "nodes", "what", "found", "what to do"))
    for row in doctor.rows(found, len(nodes)):
        table.add_row(*map(output.literal, row))
    output.show(table)
    beside = f": not {', '.join(blind)}" if blind else ""
    output.show_lines([f"{len(nodes) - len(blind)} of {len(nodes)} nodes are traced{beside}."])
    return errors.FAILED if blind else errors.DONE


def do_all_drift(where: Where, *, as_json: bool) -> int:
    """Drift of all nodes, as the controller knows it. Exit code 1: there is some. Raises UsageError."""
    from collector.cluster.api import ApiError
    from overhop.cluster import doctor

    api = connected(where)
    try:
        nodes = doctor.ask(api, where.namespace, "/v1/cluster/drift")["nodes"]
    except ApiError as error:
        raise errors.UsageError(_api_error(error)) from None
    finally:
        api.close()
    count = sum(len(each["drift"]) for each in nodes.values() if each)
    if as_json:
        output.show_json({"nodes": nodes})
    else:
        output.show_lines(doctor.drift_lines(nodes))
    return errors.FAILED if count else errors.DONE


def do_snapshot(where: Where) -> int:
    """Print all that plans and names come from. Raises UsageError."""
    from collector.snapshot_json import snapshot_json
    from overhop.cluster.live import live_snapshot

    api = connected(where)
    try:
        output.show_json(snapshot_json(live_snapshot(api)))
    finally:
        api.close()
    return errors.DONE


def do_drift(where: Where, node: str, wait_s: float, *, as_json: bool) -> int:
    """Compare this node's rules with the cluster's objects. Raises UsageError.

    Exit code 1: they differ, or cannot be compared.
    """
    from collector.node.nat_reading import read_nat
    from overhop.cluster.live import live_snapshot

    api = connected(where)
    try:
        found, unread = _drift_now(live_snapshot(api), read_nat(), node)
        if found and wait_s:
            time.sleep(wait_s)  # rules follow their objects in seconds
            again, unread = _drift_now(live_snapshot(api), read_nat(), node)
            found = [each for each in found if each in again]
    finally:
        api.close()
    if as_json:
        output.show_json({"node": node, "drift": [asdict(each) for each in found], "not_read": unread})
    else:
        lines = [
            f"{each.service} {_called(each)}/{each.protocol}: {each.what} {each.backend}".rstrip()
            for each in found
        ]
        lines += [f"{family}: not compared: {reason}" for family, reason in unread.items()]
        output.show_lines(lines or [f"{node}: rules are as Services and EndpointSlices say"])
    return errors.FAILED if found or unread else errors.DONE


def _called(drift: "Drift") -> str:
    """What is called; a node port on any address of the family."""
    if not drift.address:
        return f"{drift.family} node port {drift.port}"
    return f"[{drift.address}]:{drift.port}" if ":" in drift.address else f"{drift.address}:{drift.port}"


def _drift_now(
    snapshot: "Snapshot", rules: "Mapping[str, NatRules]", node: str
) -> "tuple[list[Drift], dict[str, str]]":
    from collector.drift import drifts, expected, not_judged

    if node not in snapshot.nodes:
        raise errors.UsageError(f"--node {node}: the cluster has no such node")
    wanted = expected(snapshot, node)
    families = {key[0] for key, each in wanted.items() if each.backends}
    reasons = {family: not_judged(rules[family]) for family in sorted(families)}
    return drifts(wanted, rules), {family: reason for family, reason in reasons.items() if reason}


def connected(where: Where) -> "Api":
    """The API of the cluster. Raises UsageError: there is none."""
    from collector.cluster.api import NoClusterError, connect

    try:
        return connect(None if where.kubeconfig is None else str(where.kubeconfig), where.context)
    except NoClusterError as error:
        raise errors.UsageError(str(error)) from None


def _api_error(error: Exception) -> str:
    """With what to do about it, where that is known."""
    hints = {401: "log in again: the token or certificate is not valid (any more)"}
    hints[403] = "whoever installs needs these rights: docs/kubernetes.md"
    hint = hints.get(getattr(error, "status", 0))
    return f"{error}: {hint}" if hint else str(error)


def _say(quiet: bool):  # type: ignore[no-untyped-def]  # noqa: ANN202  a function of one text
    return (lambda _: None) if quiet else (lambda text: output.show_lines([text]))


def _show_yaml(objects: Sequence[object]) -> None:
    text = yaml.safe_dump_all(objects, sort_keys=False)
    output.show_lines(text.rstrip("\n").splitlines())


def _show_status(controllers: Sequence[tuple[str, bool]], states: "Sequence[NodeState]") -> None:
    from overhop.cluster.install import lines

    rows = [("node", "agent", "ready", "restarts", ""), *lines(states)]
    widths = [max(len(row[at]) for row in rows) for at in range(4)]
    leads = ", ".join(f"{name} leads" if ready else name for name, ready in controllers) or "none"
    shown = [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4]]).rstrip()
        for row in rows
    ]
    output.show_lines([f"controllers: {leads}", "", *shown])


def _checked_policies(file: Path | None) -> str | None:
    from dispatcher.policy import PolicyError, load_policies
    from overhop.sources import ConfigError

    if file is None:
        return None
    try:
        load_policies(file)
        return file.read_text()
    except PolicyError as error:
        raise ConfigError(error.problems) from None


def _token(file: Path | None) -> bytes | None:
    if file is None:
        return None
    try:
        with file.open("rb") as opened:
            token = opened.read(_MAX_TOKEN_BYTES).strip()
    except OSError as error:
        raise errors.UsageError(f"--store-token-file {file}: {error.strerror}") from None
    if not token:
        raise errors.UsageError(f"--store-token-file {file}: it is empty")
    return token


def _cidrs(texts: Sequence[str]) -> list[str]:
    try:
        return [str(ip_network(text)) for text in texts]
    except ValueError as error:
        raise errors.UsageError(f"--node-cidr: {error}") from None
