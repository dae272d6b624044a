# SPDX-License-Identifier: Apache-2.0
"""`overhop cluster install | status | uninstall` (docs/kubernetes.md)."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
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
    from overhop.cluster.manifests import Wish
    from overhop.cluster.state import NodeState

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
    has_cri: bool | None
    cri_socket: str | None
    has_influxdb: bool
    dry_run: bool
    wait_s: float
    as_json: bool


def do_install(options: InstallOptions) -> int:
    """Apply everything and wait. Raises UsageError, ConfigError, OSError."""
    from overhop.cluster.install import apply, objects_of
    from overhop.cluster.manifests import without_data
    from overhop.cluster.present import require_ours, require_steady
    from overhop.cluster.state import wait_until_ready

    wish, token = _wish(options), _token(options.token_file)
    with asked(options.where) as api:
        require_ours(api, wish.namespace)
        require_steady(api, wish.namespace)
        wish = _completed(api, wish, has_token=token is not None, dry_run=options.dry_run)
        objects = objects_of(api, wish, token)
        if options.dry_run:
            _show_yaml(without_data(objects))
            return errors.DONE
        apply(api, objects, _say(options.as_json))
        lacking = wait_until_ready(api, wish.namespace, options.wait_s)
    if options.as_json:
        output.show_json({"installed": len(objects), "not_ready": lacking})
    elif lacking:
        output.show_lines([f"not ready after {options.wait_s:g} s: {', '.join(lacking)}"])
    return errors.FAILED if lacking else errors.DONE


def _wish(options: InstallOptions) -> "Wish":
    """Without what only the cluster knows. Raises UsageError, ConfigError."""
    from overhop.cluster.manifests import Wish

    return Wish(
        options.image,
        options.where.namespace,
        store=_store(options.store),
        node_cidrs=_cidrs(options.node_cidrs),
        policies=_checked_policies(options.policies),
        cri=_cri(options),
        has_influxdb=options.has_influxdb,
    )


def _store(text: str | None) -> str | None:
    from store.influxdb.target import parse_target

    if text is None:
        return None
    try:
        return str(parse_target(text))
    except ValueError as error:
        raise errors.UsageError(f"--store: {error}") from None


def _cri(options: InstallOptions) -> str | None:
    """The runtime's socket; None: nothing is said of it. Raises UsageError."""
    from overhop.cluster.kept import USUAL_CRI
    from overhop.cluster.manifests import NO_CRI

    socket = options.cri_socket
    if socket is None:
        return {None: None, True: USUAL_CRI, False: NO_CRI}[options.has_cri]
    if options.has_cri is False:
        raise errors.UsageError("--cri-socket and --no-cri: one of them")
    if not socket.startswith("/"):
        raise errors.UsageError(f"--cri-socket {socket}: it is no path from the root")
    return socket


def _completed(api: "Api", wish: "Wish", *, has_token: bool, dry_run: bool) -> "Wish":
    """With where agents come from, where the InfluxDB for trials is, and what stays.

    Raises InstallationError: agents would have no store. Raises ApiError.
    """
    from overhop.cluster.addresses import node_cidrs
    from overhop.cluster.install import trial_store
    from overhop.cluster.kept import kept
    from overhop.cluster.manifests import STORE_SECRET, InstallationError, secret
    from overhop.cluster.present import exists

    whole = kept(api, wish)
    if wish.store is None and whole.agent_config is None and not wish.has_influxdb:
        raise InstallationError("--store URL or --trial-influxdb: agents of a cluster need a server")
    has_token = has_token or wish.has_influxdb or exists(api, secret(STORE_SECRET, wish.namespace, {}))
    if not has_token and (wish.store or "").startswith("influxdb2"):
        raise InstallationError("--store-token-file FILE: InfluxDB 2 takes nothing without a token")
    store = wish.store
    if store is None and wish.has_influxdb and not dry_run:
        store = trial_store(api, wish.namespace)
    cidrs = wish.node_cidrs or node_cidrs(api.get("/api/v1/nodes")["items"])
    said = None if store is None and has_token else has_token
    return replace(whole, node_cidrs=cidrs, store=store, has_token=said)


def do_status(where: Where, *, as_json: bool) -> int:
    """Show it. Exit code 1 if something is missing. Raises UsageError."""
    from overhop.cluster import state

    with asked(where) as api:
        controllers = state.controllers(api, where.namespace)
        reached, why = _reached(api, where.namespace)
        states = state.status(api, where.namespace, reached)
    is_led = any(ready for _, ready in controllers)
    is_good = is_led and all(each.is_ready and each.is_reached is not False for each in states)
    if as_json:
        nodes = [asdict(each) for each in states]
        listed = [{"pod": name, "leads": ready} for name, ready in controllers]
        output.show_json({"controllers": listed, "nodes": nodes, "not_asked": why})
    else:
        _show_status(controllers, states, why)
    return errors.DONE if is_good else errors.FAILED


def _reached(api: "Api", namespace: str) -> "tuple[dict[str, bool] | None, str]":
    """Whether the controller has heard of each node's agent; None and why, where it cannot be asked."""
    from collector.cluster.api import ApiError
    from overhop.cluster.doctor import ask

    try:
        nodes = ask(api, namespace, "/v1/cluster")["nodes"]
    except (ApiError, OSError) as error:
        return None, str(error)
    return {name: bool(each["has_agent"]) for name, each in nodes.items()}, ""


def do_uninstall(where: Where, wait_s: float, *, as_json: bool) -> int:
    """Clean nodes, remove everything. Exit code 1 if a node was not reached. Raises UsageError."""
    from overhop.cluster.present import require_ours
    from overhop.cluster.removal import uninstall

    with asked(where) as api:
        require_ours(api, where.namespace)
        left = uninstall(api, where.namespace, wait_s, _say(as_json))
    if as_json:
        output.show_json({"not_reached": left})
    elif left:
        output.show_lines([f"not reached, run `overhop clean` there: {', '.join(left)}"])
    return errors.FAILED if left else errors.DONE


def do_doctor(where: Where, *, as_json: bool) -> int:
    """What is seen on each node and in total. Exit code 1: a node is not traced. Raises UsageError."""
    from overhop.cluster import doctor

    with asked(where) as api:
        nodes = doctor.ask(api, where.namespace, "/v1/cluster/doctor")["nodes"]
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
    from overhop.cluster import doctor

    with asked(where) as api:
        nodes = doctor.ask(api, where.namespace, "/v1/cluster/drift")["nodes"]
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


@contextmanager
def asked(where: Where) -> "Iterator[Api]":
    """The API of the cluster; what goes wrong with it is wrong usage. Raises UsageError."""
    from collector.cluster.api import ApiError
    from overhop.cluster.manifests import InstallationError

    api = connected(where)
    try:
        yield api
    except InstallationError as error:
        raise errors.UsageError(str(error)) from None
    except ApiError as error:
        raise errors.UsageError(_api_error(error)) from None
    finally:
        api.close()


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


def _show_status(controllers: Sequence[tuple[str, bool]], states: "Sequence[NodeState]", why: str) -> None:
    from overhop.cluster.state import lines

    rows = [("node", "agent", "ready", "reached", "restarts", "image", ""), *lines(states)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
    leads = ", ".join(f"{name} leads" if ready else name for name, ready in controllers) or "none"
    shown = [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
    asked = [f"whom the controller has heard of is not known: {why}"] if why else []
    output.show_lines([f"controllers: {leads}", *asked, "", *shown])


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
