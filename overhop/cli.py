# SPDX-License-Identifier: Apache-2.0
"""The command line: each command reads its options into a dataclass and calls one `do_x`.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration. Results go to standard output, everything else
to standard error.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import overhop
from overhop import config, errors, logs, sources

if TYPE_CHECKING:
    from overhop.stored import Place

app = typer.Typer(
    name="overhop",
    help="Tells where a request's time goes inside the container overlay network.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

config_app = typer.Typer(
    name="config", help="The configuration of this node (docs/config.md).", rich_markup_mode=None
)
app.add_typer(config_app)
store_app = typer.Typer(
    name="store", help="The store that agents fill (docs/store.md).", rich_markup_mode=None
)
app.add_typer(store_app)
cluster_app = typer.Typer(
    name="cluster", help="overhop in a Kubernetes cluster (docs/kubernetes.md).", rich_markup_mode=None
)
app.add_typer(cluster_app)
sidecar_app = typer.Typer(
    name="sidecar", help="Contexts at the head of the header (docs/sidecar.md).", rich_markup_mode=None
)
app.add_typer(sidecar_app)


def _setting(flag: str, doc: str = "") -> Any:  # noqa: ANN401  typer's own type is untyped
    """The option of a setting: what it means stands in overhop/config.py, or in `doc`; not given is None."""
    each = config.setting(flag)
    default = "" if each.default is None else f" [default: {config.shown(each.default)}]"
    metavar = None if each.is_switch else each.option.placeholder
    spelled = f"{flag}/--no-{flag.removeprefix('--')}" if each.is_switch else flag
    return typer.Option(spelled, metavar=metavar, help=(doc or each.doc) + default, show_default=False)


StoreToRead = Annotated[str | None, _setting("--store", "Store that is read: a directory or a server.")]
TokenFile = Annotated[str | None, _setting("--store-token-file")]
CaFile = Annotated[str | None, _setting("--store-ca-file")]
Spool = Annotated[str | None, _setting("--spool")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Machine-readable output on standard output.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        sources.FILE_OPTION,
        metavar="FILE",
        help=f"Configuration (docs/config.md) [default: ${sources.FILE_VARIABLE}, {sources.DEFAULT_FILE}]",
    ),
]


Kubeconfig = Annotated[
    Path | None, typer.Option("--kubeconfig", metavar="FILE", help="Which cluster [default: as kubectl]")
]
KubeContext = Annotated[
    str | None, typer.Option("--context", metavar="NAME", help="Context of the kubeconfig [default: its own]")
]
KubeNamespace = Annotated[
    str, typer.Option("--namespace", metavar="NAME", help="Where overhop is, or is to be.")
]


SidecarVariant = Annotated[
    Literal["lua", "native"], typer.Option("--variant", help="Lua filter, or native module (Envoy only).")
]
SidecarHeaders = Annotated[
    str | None,
    typer.Option(
        "--headers",
        metavar="A,B,...",
        help="What is context, in the order in which it shall lead [default: W3C, then B3].",
    ),
]
SidecarProtocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        metavar="CLASS[=SERVICE[:PORT]]",
        help="By clusters that speak h1, h2, auto, preserve-case or auto-preserve-case, not by the router.",
    ),
]
SidecarNamespace = Annotated[
    str, typer.Option("--namespace", metavar="NAME", help="Of the EnvoyFilter; Istio's root is the mesh.")
]
SidecarSelector = Annotated[
    list[str] | None,
    typer.Option("--selector", metavar="LABEL=VALUE", help="Only proxies of pods with this label."),
]


@dataclass(slots=True)
class Edge:
    """What the outermost function needs to know of the command line."""

    debug: bool = False
    options: dict[str, object] = field(default_factory=dict)
    """Settings that were given before the command, by flag."""


def configured(
    context: typer.Context, file: Path | None, options: Mapping[str, object] | None = None
) -> sources.Resolved:
    """The configuration that applies to a command with these options (by flag; None: not given).

    From now on logs are as it says. Raises ConfigError.
    """
    resolved = sources.resolve({**context.obj.options, **(options or {})}, file)
    _log_as(resolved.config.logging)
    return resolved


def _place(
    context: typer.Context,
    file: Path | None,
    store: str | None,
    token_file: str | None,
    ca_file: str | None,
    spool: str | None = None,
) -> "Callable[[], Place]":
    """Where the store is, once somebody asks. It raises ConfigError."""
    given = {
        "--store": store,
        "--store-token-file": token_file,
        "--store-ca-file": ca_file,
        "--spool": spool,
    }

    def asked() -> "Place":
        from overhop.stored import place_of

        return place_of(configured(context, file, given).config.store)

    return asked


def _log_as(wanted: config.LoggingSection) -> None:
    logs.configure(wanted.level, as_json=wanted.as_json)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"overhop {overhop.__version__}")
        raise typer.Exit


@app.callback()
def overhop_command(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001  its callback prints it
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit."),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and what the tools said.")] = False,
    log_level: Annotated[str | None, _setting("--log-level")] = None,
    log_json: Annotated[bool | None, _setting("--log-json")] = None,
) -> None:
    """Where a request's time goes inside the container overlay network, measured in the kernel."""
    context.obj.debug = debug
    context.obj.options = {"--log-level": log_level, "--log-json": log_json}
    try:
        _log_as(sources.logging_before(context.obj.options))
    except sources.ConfigError:
        if context.invoked_subcommand != config_app.info.name:
            raise
        # The check says it together with all else that is wrong.


@app.command()
def agent(
    context: typer.Context,
    config_file: ConfigFile = None,
    plan: Annotated[str | None, _setting("--plan")] = None,
    nic: Annotated[str | None, _setting("--nic")] = None,
    attach: Annotated[str | None, _setting("--attach")] = None,
    controller: Annotated[str | None, _setting("--controller")] = None,
    controller_token_file: Annotated[str | None, _setting("--controller-token-file")] = None,
    controller_ca_file: Annotated[str | None, _setting("--controller-ca-file")] = None,
    controller_name: Annotated[str | None, _setting("--controller-name")] = None,
    cri: Annotated[str | None, _setting("--cri")] = None,
    state: Annotated[str | None, _setting("--state")] = None,
    store: Annotated[str | None, _setting("--store")] = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    spool: Annotated[str | None, _setting("--spool")] = None,
    spool_bytes: Annotated[str | None, _setting("--spool-bytes")] = None,
    spool_age_s: Annotated[str | None, _setting("--spool-age")] = None,
    send_rows_per_s: Annotated[str | None, _setting("--send-rows-per-s")] = None,
    cluster: Annotated[str | None, _setting("--cluster")] = None,
    node: Annotated[str | None, _setting("--node")] = None,
    metrics_listen: Annotated[str | None, _setting("--metrics-listen")] = None,
    duration_s: Annotated[
        float | None,
        typer.Option("--duration", metavar="S", min=0.1, help="Stop after this many seconds."),
    ] = None,
    as_json: JsonFlag = False,
) -> int:
    """Trace this node until stopped.

    Its NIC and its pods' interfaces, as a plan says or as they are found.
    """
    from overhop.commands.agent import AgentOptions, do_agent

    options = {
        "--plan": plan,
        "--nic": nic,
        "--attach": attach,
        "--controller": controller,
        "--controller-token-file": controller_token_file,
        "--controller-ca-file": controller_ca_file,
        "--controller-name": controller_name,
        "--cri": cri,
        "--state": state,
        "--store": store,
        "--store-token-file": token_file,
        "--store-ca-file": ca_file,
        "--spool": spool,
        "--spool-bytes": spool_bytes,
        "--spool-age": spool_age_s,
        "--send-rows-per-s": send_rows_per_s,
        "--cluster": cluster,
        "--node": node,
        "--metrics-listen": metrics_listen,
    }
    return do_agent(AgentOptions(configured(context, config_file, options).config, duration_s, as_json))


@cluster_app.callback()
def cluster_command() -> None:
    """overhop in a Kubernetes cluster (docs/kubernetes.md): a controller, and an agent on every node."""


@cluster_app.command("install")
def cluster_install(
    image: Annotated[
        str, typer.Option("--image", metavar="NAME", help="Image of overhop, one that nodes can get.")
    ],
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    namespace: KubeNamespace = "overhop",
    store: Annotated[
        str | None,
        typer.Option("--store", metavar="URL", help="Server for hops, such as influxdb2://HOST:8086/ORG."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--store-token-file", metavar="FILE", help="File with the server's token.")
    ] = None,
    policies: Annotated[
        Path | None, typer.Option("--policies", metavar="FILE", help="What is traced (docs/policy.md).")
    ] = None,
    node_cidr: Annotated[
        list[str] | None,
        typer.Option(
            "--node-cidr",
            metavar="CIDR",
            help="Where agents come from, again and again [default: the nodes' addresses]",
        ),
    ] = None,
    cri: Annotated[
        bool | None,
        typer.Option(
            "--cri/--no-cri",
            help="Whether agents get the container runtime's socket [default: yes, or as it is]",
            show_default=False,
        ),
    ] = None,
    cri_socket: Annotated[
        str | None,
        typer.Option(
            "--cri-socket",
            metavar="PATH",
            help="Where it is on the nodes [default: /run/containerd/containerd.sock, or as it is]",
        ),
    ] = None,
    trial_influxdb: Annotated[
        bool, typer.Option("--trial-influxdb", help="Install an InfluxDB too, whose data go with its pod.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the objects, change nothing.")] = False,
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="S", min=0, help="How long to wait until all is ready.")
    ] = 120,
    as_json: JsonFlag = False,
) -> int:
    """Install or upgrade. What is not said stays as it is: store, policies, the runtime's socket, secrets."""
    from overhop.commands.cluster import InstallOptions, Where, do_install

    return do_install(
        InstallOptions(
            Where(kubeconfig, kube_context, namespace),
            image,
            store,
            token_file,
            policies,
            tuple(node_cidr or ()),
            cri,
            cri_socket,
            trial_influxdb,
            dry_run,
            wait_s,
            as_json,
        )
    )


@cluster_app.command("status")
def cluster_status(
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    namespace: KubeNamespace = "overhop",
    as_json: JsonFlag = False,
) -> int:
    """Which nodes have an agent that is ready. Exit code 1 if one has not."""
    from overhop.commands.cluster import Where, do_status

    return do_status(Where(kubeconfig, kube_context, namespace), as_json=as_json)


@cluster_app.command("doctor")
def cluster_doctor(
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    namespace: KubeNamespace = "overhop",
    as_json: JsonFlag = False,
) -> int:
    """Tell what is seen on every node, what is not and why. Exit code 1 if a node is not traced."""
    from overhop.commands.cluster import Where, do_doctor

    return do_doctor(Where(kubeconfig, kube_context, namespace), as_json=as_json)


@cluster_app.command("snapshot")
def cluster_snapshot(
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    as_json: JsonFlag = True,  # noqa: ARG001  there is no other form
) -> int:
    """Print the cluster as JSON: what plans and names come from, for `overhop plan --snapshot`."""
    from overhop.commands.cluster import Where, do_snapshot

    return do_snapshot(Where(kubeconfig, kube_context, ""))


@cluster_app.command("drift")
def cluster_drift(
    node: Annotated[
        str | None,
        typer.Option(
            "--node", metavar="NAME", help="Read this machine's rules, which is that node of the cluster."
        ),
    ] = None,
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    namespace: KubeNamespace = "overhop",
    wait_s: Annotated[
        float,
        typer.Option(
            "--wait", metavar="S", min=0, help="With --node: look twice, what is still there counts."
        ),
    ] = 30,
    as_json: JsonFlag = False,
) -> int:
    """Compare NAT rules with Services and EndpointSlices: of all nodes, as their agents say, or of this one.

    Exit code 1 if they differ.
    """
    from overhop.commands.cluster import Where, do_all_drift, do_drift

    where = Where(kubeconfig, kube_context, namespace)
    if node is None:
        return do_all_drift(where, as_json=as_json)
    return do_drift(where, node, wait_s, as_json=as_json)


@cluster_app.command("uninstall")
def cluster_uninstall(
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    namespace: KubeNamespace = "overhop",
    wait_s: Annotated[
        float, typer.Option("--wait", metavar="S", min=0, help="How long to wait for each step.")
    ] = 60,
    as_json: JsonFlag = False,
) -> int:
    """Clean every node, then remove all that was installed. Exit code 1 if a node was not reached."""
    from overhop.commands.cluster import Where, do_uninstall

    return do_uninstall(Where(kubeconfig, kube_context, namespace), wait_s, as_json=as_json)


@app.command("controller")
def run_controller(
    context: typer.Context,
    config_file: ConfigFile = None,
    listen: Annotated[str | None, _setting("--listen")] = None,
    certificate: Annotated[str | None, _setting("--tls-cert")] = None,
    key: Annotated[str | None, _setting("--tls-key")] = None,
    policies: Annotated[str | None, _setting("--policies")] = None,
    agent_tokens: Annotated[str | None, _setting("--agent-tokens")] = None,
    people_token_file: Annotated[str | None, _setting("--people-token-file")] = None,
    namespace: Annotated[str | None, _setting("--namespace")] = None,
    kubeconfig: Annotated[str | None, _setting("--kubeconfig")] = None,
    cluster: Annotated[str | None, _setting("--cluster")] = None,
    node: Annotated[str | None, _setting("--node")] = None,
    metrics_listen: Annotated[str | None, _setting("--metrics-listen")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Plan for the agents of a cluster until stopped."""
    from overhop.commands.controller import do_controller

    options = {
        "--listen": listen,
        "--tls-cert": certificate,
        "--tls-key": key,
        "--policies": policies,
        "--agent-tokens": agent_tokens,
        "--people-token-file": people_token_file,
        "--namespace": namespace,
        "--kubeconfig": kubeconfig,
        "--cluster": cluster,
        "--node": node,
        "--metrics-listen": metrics_listen,
    }
    return do_controller(configured(context, config_file, options), as_json=as_json)


@config_app.callback()
def config_command() -> None:
    """The configuration of this node (docs/config.md)."""


@config_app.command("check")
def config_check(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Configuration [default: the one that applies]")
    ] = None,
    as_json: JsonFlag = False,
) -> int:
    """Say all that is wrong with the configuration.

    And with the plan that it names; if nothing is, what applies and where each value is from.
    """
    from overhop.commands.config import ConfigCheckOptions, do_config_check

    return do_config_check(ConfigCheckOptions(lambda: configured(context, file), as_json=as_json))


@store_app.callback()
def store_command() -> None:
    """The store that agents fill (docs/store.md): a directory, InfluxDB, VictoriaMetrics."""


@store_app.command("init")
def store_init(
    context: typer.Context,
    store: StoreToRead = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Make what is missing: buckets or databases with their retention.

    As often as you like; nothing is deleted, no retention shortened.
    """
    from overhop.commands.store import StoreOptions, do_init

    return do_init(StoreOptions(_place(context, config_file, store, token_file, ca_file), as_json))


@store_app.command("check")
def store_check(
    context: typer.Context,
    store: StoreToRead = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    spool: Spool = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Tell whether it can be used: reachable, rights, clocks, retention, a point written and read back.

    The spool of this node is looked at too, if there is one. Exit code 1 if agents could not use it.
    """
    from overhop.commands.store import StoreOptions, do_check

    return do_check(StoreOptions(_place(context, config_file, store, token_file, ca_file, spool), as_json))


@store_app.command("usage")
def store_usage(
    context: typer.Context,
    store: StoreToRead = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Show series, rows and bytes, and what there will be when retention is reached, and per node more."""
    from overhop.commands.store import StoreOptions, do_usage

    return do_usage(StoreOptions(_place(context, config_file, store, token_file, ca_file), as_json))


@store_app.command("import")
def store_import(
    context: typer.Context,
    source: Annotated[Path, typer.Option("--from", metavar="DIR", help="The embedded store that is read.")],
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From then on: 30m, 2d or an ISO time [default: all].")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Up to then [default: now].")] = None,
    store: StoreToRead = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Copy an embedded store into a server.

    Interrupted, it goes on where it was when started again; nothing is there twice.
    """
    from overhop.commands.store import ImportOptions, do_import

    place = _place(context, config_file, store, token_file, ca_file)
    return do_import(ImportOptions(place, source, since, until, as_json))


@app.command()
def hops(
    context: typer.Context,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Out of the store, from then on: 90s, 30m, 1h, 2d or an ISO time."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Out of the store, up to then [default: now]")
    ] = None,
    namespace: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only hops from or to this namespace.")
    ] = None,
    workload: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only hops from or to this workload.")
    ] = None,
    node: Annotated[str | None, typer.Option(metavar="NAME", help="Only hops of this node.")] = None,
    kind: Annotated[
        Literal["rx", "tx", "local", "forward"] | None, typer.Option(help="Only this kind.")
    ] = None,
    min_latency_us: Annotated[
        float | None,
        typer.Option(
            "--min-latency",
            metavar="US",
            min=0.001,
            max=4_000_000,
            help="Only hops of so many microseconds or more.",
        ),
    ] = None,
    sort: Annotated[Literal["count", "p99", "max"], typer.Option(help="What comes first.")] = "count",
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Show at most so many series [default: all; out of the store 50]."
        ),
    ] = None,
    store: StoreToRead = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    config_file: ConfigFile = None,
    once: Annotated[bool, typer.Option("--once", help="Live: one interval, then exit.")] = False,
    duration_s: Annotated[
        float | None,
        typer.Option("--duration", metavar="S", min=0.1, help="Live: exit after this many seconds."),
    ] = None,
    interval_s: Annotated[
        float | None,
        typer.Option(
            "--interval", metavar="S", min=0.1, max=60, help="Live: seconds between views [default: 2]."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> int:
    """Show hops by series, live or out of the store.

    Live: of the agent that runs here; with --since, --until or --store out of the store.
    """
    from overhop.commands.hops import Filter, HopsOptions, do_hops

    is_stored = any(given is not None for given in (since, until, store))
    options = HopsOptions(
        once=once,
        duration_s=duration_s,
        interval_s=interval_s,
        as_json=as_json,
        only=Filter(namespace, workload, node, kind, min_latency_us),
        sort=sort,
        limit=limit,
        since=since,
        until=until,
        store=_place(context, config_file, store, token_file, ca_file) if is_stored else None,
    )
    return do_hops(options)


@app.command()
def trace(
    context: typer.Context,
    trace_id: Annotated[str, typer.Argument(metavar="ID", help="32 or 16 hex digits, or a traceparent.")],
    wait_s: Annotated[
        float,
        typer.Option(
            "--wait", metavar="S", min=0, max=600, help="Wait at most so many seconds until it has arrived."
        ),
    ] = 0.0,
    store: StoreToRead = None,
    token_file: TokenFile = None,
    ca_file: CaFile = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Show where one request's time went.

    Its hops on every node, out of the store.
    """
    from overhop.commands.trace import TraceOptions, do_trace

    place = _place(context, config_file, store, token_file, ca_file)
    return do_trace(TraceOptions(trace_id, place, wait_s, as_json))


@app.command()
def plan(
    snapshot: Annotated[
        Path | None,
        typer.Option(
            "--snapshot", metavar="FILE", help="The cluster as JSON (docs/policy.md) [default: it is asked]"
        ),
    ] = None,
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    policies: Annotated[
        Path | None,
        typer.Option(
            "--policies", metavar="FILE", help="What is traced, in YAML.", show_default="everything"
        ),
    ] = None,
    node: Annotated[str | None, typer.Option("--node", metavar="NAME", help="Only this node's plan.")] = None,
    why: Annotated[
        str | None,
        typer.Option("--why", metavar="NAMESPACE/POD", help="Which policy counts for this pod, and why."),
    ] = None,
    as_json: JsonFlag = False,
) -> int:
    """Show what nodes would do.

    Out of a cluster, or a snapshot of one, and policies.
    """
    from overhop.commands.cluster import Where
    from overhop.commands.plan import PlanOptions, do_plan

    where = Where(kubeconfig, kube_context, "")
    return do_plan(PlanOptions(snapshot, where, policies, node, why, as_json))


@app.command()
def inventory(
    context: typer.Context,
    plan: Annotated[str | None, _setting("--plan")] = None,
    nic: Annotated[str | None, _setting("--nic")] = None,
    node: Annotated[str | None, _setting("--node")] = None,
    cri: Annotated[str | None, _setting("--cri")] = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Show what this node knows of itself.

    Interfaces, pods, overlay, NAT rules, kernel, agent.
    """
    from overhop.commands.inventory import InventoryOptions, do_inventory

    options = {"--plan": plan, "--nic": nic, "--node": node, "--cri": cri}
    return do_inventory(InventoryOptions(lambda: configured(context, config_file, options).config, as_json))


@app.command()
def doctor(
    context: typer.Context,
    cri: Annotated[str | None, _setting("--cri")] = None,
    config_file: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Tell what this node can do, and what to do about the rest."""
    from overhop.commands.doctor import DoctorOptions, do_doctor

    asked = configured(context, config_file, {"--cri": cri}).config.agent.cri
    return do_doctor(DoctorOptions(cri=asked, as_json=as_json))


@app.command()
def clean(as_json: JsonFlag = False) -> int:
    """Remove what a killed agent or lab left behind here.

    Refuses while an agent runs in this network namespace. Touches nothing that is not overhop's.
    """
    from overhop.commands.clean import CleanOptions, do_clean

    return do_clean(CleanOptions(as_json=as_json))


@app.command()
def demo(
    requests: Annotated[
        int, typer.Option(metavar="N", min=1, max=100_000, help="How many requests to send.")
    ] = 400,
    qps: Annotated[
        float | None,
        typer.Option(
            metavar="Q",
            min=0.1,
            max=100_000,
            help="Requests per second [default: 100; without sidecars as fast as answers come].",
        ),
    ] = None,
    cni: Annotated[
        Literal["vxlan", "vxlan6", "ipip"],
        typer.Option(help="The overlay: flannel's on IPv4 or IPv6, or routes and IPIP as of Calico."),
    ] = "vxlan",
    window: Annotated[
        int | None,
        typer.Option(
            metavar="BYTES",
            min=64,
            max=8192,
            help="Bytes of a request that are searched for its trace context [default: 4096].",
        ),
    ] = None,
    no_sidecar: Annotated[
        bool, typer.Option("--no-sidecar", help="Plain servers instead of a mesh with Envoy.")
    ] = False,
    relocation: Annotated[
        Literal["off", "lua", "native"],
        typer.Option(help="How sidecars move the trace context to the head of the header; off: not at all."),
    ] = "lua",
    tracer: Annotated[
        Literal["opentelemetry", "zipkin"],
        typer.Option(help="Of the sidecars: with W3C context, or with B3 in several headers and W3C."),
    ] = "opentelemetry",
    store: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|influxdb2|influxdb1",
            help="Keep the hops in a store there, or in an InfluxDB that the demo starts; default: nowhere.",
        ),
    ] = None,
    serve: Annotated[
        bool | None,
        typer.Option("--serve/--no-serve", help="Keep the lab up until Ctrl-C; default: in a terminal."),
    ] = None,
    as_json: JsonFlag = False,
) -> int:
    """Show every hop of real requests through a sidecar mesh.

    Two nodes with pods and an overlay, in network namespaces of their own. Needs root, leaves nothing.
    """
    from overhop.commands.demo import DemoOptions, do_demo

    options = DemoOptions(
        requests, cni, not no_sidecar, relocation, tracer, qps, window, store, serve, as_json
    )
    return do_demo(options)


@sidecar_app.callback()
def sidecar_command() -> None:
    """Contexts at the head of the header: proxies that move them, and whether they do (docs/sidecar.md)."""


@sidecar_app.command("render")
def sidecar_render(
    target: Annotated[
        Literal["envoy", "istio"],
        typer.Option(help="A part of an Envoy's configuration, or an EnvoyFilter of Istio."),
    ],
    variant: SidecarVariant = "lua",
    headers: SidecarHeaders = None,
    protocols: SidecarProtocols = None,
    namespace: SidecarNamespace = "istio-system",
    selector: SidecarSelector = None,
    as_json: JsonFlag = False,
) -> int:
    """Print the configuration that has proxies move trace context to the head of the header."""
    from overhop.commands.sidecar import do_render, given

    return do_render(given(target, variant, headers, protocols, namespace, selector), as_json=as_json)


@sidecar_app.command("apply")
def sidecar_apply(
    headers: SidecarHeaders = None,
    protocols: SidecarProtocols = None,
    namespace: SidecarNamespace = "istio-system",
    selector: SidecarSelector = None,
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask the cluster whether it would take it; change nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> int:
    """Have Istio's proxies move trace context: apply the EnvoyFilter that `render --target istio` prints."""
    from overhop.commands.sidecar import Where, do_apply, given

    wanted = given("istio", "lua", headers, protocols, namespace, selector)
    return do_apply(wanted, Where(kubeconfig, kube_context, dry_run, as_json))


@sidecar_app.command("remove")
def sidecar_remove(
    namespace: SidecarNamespace = "istio-system",
    selector: SidecarSelector = None,
    kubeconfig: Kubeconfig = None,
    kube_context: KubeContext = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed; change nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> int:
    """Remove the EnvoyFilter of that namespace and selector from a cluster. Exit code 1: there is none."""
    from overhop.commands.sidecar import Where, do_remove, given

    wanted = given("istio", "lua", None, None, namespace, selector)
    return do_remove(wanted, Where(kubeconfig, kube_context, dry_run, as_json))


@sidecar_app.command("verify")
def sidecar_verify(
    pcap: Annotated[
        str | None,
        typer.Option("--pcap", metavar="FILE", help="A capture, pcap or pcapng; - for standard input."),
    ] = None,
    interface: Annotated[
        str | None, typer.Option("--interface", metavar="NAME", help="Look at what passes this interface.")
    ] = None,
    from_agent: Annotated[
        bool, typer.Option("--agent", help="Look at what the agent that runs here records.")
    ] = False,
    seconds: Annotated[
        float, typer.Option(metavar="S", min=0.1, max=86_400, help="With --interface, --agent: for so long.")
    ] = 10.0,
    requests: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Stop after so many requests with a context.")
    ] = None,
    window: Annotated[
        int, typer.Option(metavar="BYTES", min=64, max=8192, help="Window in which contexts shall be found.")
    ] = 200,
    threshold: Annotated[
        float, typer.Option(metavar="SHARE", min=0.0, max=1.0, help="Least share of contexts to be found.")
    ] = 1.0,
    plan: Annotated[
        Path | None,
        typer.Option(
            "--plan", metavar="FILE", help="Plan (docs/plan.md): names of senders, what is searched."
        ),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write the picture there as well.")
    ] = None,
    as_json: JsonFlag = False,
) -> int:
    """Show where contexts are in requests, and how many a window would find.

    Exit code 1 if within the window fewer than the threshold are found, or no context was seen.
    """
    from overhop.commands.sidecar_verify import VerifyOptions, do_verify

    return do_verify(
        VerifyOptions(pcap, interface, from_agent, seconds, requests, window, threshold, plan, svg, as_json)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. The only place where exceptions become text."""
    edge = Edge()
    if sys.stderr is None:  # closed by who called us, who does not want to hear of anything
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  until the end
    if sys.stdout is None:  # closed by who called us: the next file that is opened would be written to
        return errors.report(errors.CommandError("standard output is closed"), debug=False)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a locale without µ and → gets question marks
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        result = typer.main.get_command(app).main(given, "overhop", standalone_mode=False, obj=edge)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away (`overhop hops | head`): nothing is wrong, and nobody is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return errors.FAILED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the edge
        return errors.report(error, debug=edge.debug)
    return result if isinstance(result, int) else errors.DONE
