# SPDX-License-Identifier: Apache-2.0
"""The one configuration: every setting with its type, default, meaning and names (docs/config.md).

A setting is spelled once, here: its key in the YAML file is where it stands, its option is `Option.flag`, and
its environment variable is made from the option (`--metrics-listen`: OVERHOP_METRICS_LISTEN).
overhop/sources.py reads them.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator

from store.influxdb.target import SCHEMES, Target, is_target, parse_target

NONE = "none"
"""What stands for "not at all" where a setting may be left out."""
ENVIRONMENT_PREFIX = "OVERHOP_"
LEAST_SPOOL_BYTES = 16 << 20
"""One segment's worth."""
_LABEL_BYTES = 63
_SIZE = re.compile(r"(\d{1,15})(|KiB|MiB|GiB|TiB)")
_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_MOST = 1e9


@dataclass(frozen=True, slots=True)
class Option:
    """How a setting is given on the command line."""

    flag: str
    placeholder: str = "TEXT"


@dataclass(frozen=True, slots=True)
class Listen:
    """An address and a TCP port to listen at; port 0: any that is free."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _label(value: str) -> str:
    if not value or not value.isprintable() or " " in value or len(value.encode()) > _LABEL_BYTES:
        raise ValueError(f"{value!r} is no name (1 to {_LABEL_BYTES} bytes, printable, no space)")
    return value


def _label_or_none(value: str | None) -> str | None:
    return None if value is None else _label(value)


def _or_none(value: object) -> object:
    return None if value == NONE else value


def _path(value: object) -> Path | None:
    if value is None or isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"{value!r} is no path")
    return None if value == NONE else Path(value)


def _interface(value: str | None) -> str | None:
    if value is None:
        return None
    from agent.plan.model import interface_name

    return interface_name(value)


def _listen(value: object) -> Listen | None:
    if value is None or value == NONE:
        return None
    if isinstance(value, Listen):
        return value
    host, _, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
        if not (port.isascii() and port.isdigit() and int(port) < 1 << 16):
            raise ValueError
    except ValueError:
        hint = "an IP address and a port, such as 127.0.0.1:9464 or [::1]:9464, or none"
        raise ValueError(f"{value!r} is not {hint}") from None
    return Listen(str(address), int(port))


def _store_at(value: object) -> "StoreAt":
    if isinstance(value, Target):
        return value
    if not isinstance(value, str):
        return _path(value)
    if is_target(value):
        return parse_target(value)
    scheme, *_ = re.split(r"[+:]", value)
    if scheme in SCHEMES:
        raise ValueError(f"it is no address of a server, such as {scheme}://HOST/ (a directory: ./{scheme})")
    return _path(value)


def _size(value: object) -> int:
    found = _SIZE.fullmatch(str(value)) if isinstance(value, int | str) and value is not True else None
    size_bytes = int(found[1]) * _UNITS[found[2] or ""] if found else 0
    if size_bytes < LEAST_SPOOL_BYTES:
        raise ValueError(f"{value!r} is no size such as 512MiB or 2GiB, at least 16MiB")
    return size_bytes


def _positive(value: object) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and value is not True else 0.0
    except ValueError:
        number = 0.0
    if not 1.0 <= number <= _MOST:
        raise ValueError(f"{value!r} is no number from 1 to {_MOST:,.0f}")
    return number


StoreAt = Path | Target | None
"""A directory (embedded store), a server, or nowhere."""
_Label = Annotated[str, AfterValidator(_label)]
_OptionalLabel = Annotated[str | None, BeforeValidator(_or_none), AfterValidator(_label_or_none)]
_OptionalPath = Annotated[Path | None, PlainValidator(_path)]
_OptionalInterface = Annotated[str | None, BeforeValidator(_or_none), AfterValidator(_interface)]
_StoreAt = Annotated[StoreAt, PlainValidator(_store_at)]
_Size = Annotated[int, PlainValidator(_size)]
_Positive = Annotated[float, PlainValidator(_positive)]
_OptionalListen = Annotated[Listen | None, PlainValidator(_listen)]


def _url(value: object) -> str | None:
    if value is None or value == NONE:
        return None
    parts = urlsplit(value) if isinstance(value, str) else urlsplit("")
    try:
        is_good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.path not in ("", "/") or parts.query or parts.username or parts.fragment:
        raise ValueError("it is no address such as https://HOST:PORT, or none")
    return str(value).rstrip("/")


_OptionalUrl = Annotated[str | None, PlainValidator(_url)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AgentSection(_Section):
    """How the agent of this node runs."""

    plan: Annotated[_OptionalPath, Option("--plan", "FILE")] = Field(
        default=None,
        description="YAML plan, reread on change (docs/plan.md); none: every veth to another namespace.",
    )
    nic: Annotated[_OptionalInterface, Option("--nic", "NAME")] = Field(
        default=None, description="The node's NIC where there is no plan; none: that of the default route."
    )
    attach: Annotated[Literal["auto", "tcx", "clsact"], Option("--attach")] = Field(
        default="auto", description="How programs are attached: auto, tcx or clsact; auto: TCX if there is."
    )
    controller: Annotated[_OptionalUrl, Option("--controller", "URL")] = Field(
        default=None,
        description="The cluster's controller, such as https://HOST:9443 (docs/controller.md); none: none.",
    )
    controller_token_file: Annotated[_OptionalPath, Option("--controller-token-file", "FILE")] = Field(
        default=None, description="File with this agent's token for the controller, read again each time."
    )
    controller_ca_file: Annotated[_OptionalPath, Option("--controller-ca-file", "FILE")] = Field(
        default=None, description="Certificates (PEM) of who signs the controller's; none: the system's."
    )
    controller_name: Annotated[_OptionalLabel, Option("--controller-name", "NAME")] = Field(
        default=None, description="What the controller's certificate calls it; none: the host of its URL."
    )
    cri: Annotated[str, Option("--cri", "SOCKET")] = Field(
        default="auto",
        description="Socket of the runtime (CRI, Docker) that tells pods; auto: who is there; none.",
    )
    state: Annotated[_OptionalPath, Option("--state", "DIR")] = Field(
        default=Path("/var/lib/overhop/agent"),
        description="Where the last plan of the controller is kept; none: nowhere.",
    )


class StoreSection(_Section):
    """Where hops are kept."""

    url: Annotated[_StoreAt, Option("--store", "DIR|URL")] = Field(
        default=Path("/var/lib/overhop/store"),
        description="Directory of the embedded store, or a server such as influxdb2://HOST:8086/ORG, "
        "influxdb1://USER@HOST:8086/, victoriametrics://HOST:8428/ (docs/store.md); none: nothing is kept.",
    )
    token_file: Annotated[_OptionalPath, Option("--store-token-file", "FILE")] = Field(
        default=None, description="File with the server's token; of InfluxDB 1 with the password of USER."
    )
    ca_file: Annotated[_OptionalPath, Option("--store-ca-file", "FILE")] = Field(
        default=None, description="Certificates (PEM) of who signs the server's; none: the system's."
    )
    spool: Annotated[_OptionalPath, Option("--spool", "DIR")] = Field(
        default=Path("/var/lib/overhop/spool"),
        description="Where rows wait that go to a server (docs/spool.md), made with mode 0700.",
    )
    spool_bytes: Annotated[_Size, Option("--spool-bytes", "SIZE")] = Field(
        default=1 << 30, description="How much may wait, such as 512MiB; beyond that the oldest rows go."
    )
    spool_age_s: Annotated[_Positive, Option("--spool-age", "S")] = Field(
        default=259_200.0, description="How many seconds rows may wait; older ones go."
    )
    send_rows_per_s: Annotated[_Positive, Option("--send-rows-per-s", "N")] = Field(
        default=10_000.0, description="How fast a node sends what has waited."
    )


class MetricsSection(_Section):
    """What Prometheus gets."""

    listen: Annotated[_OptionalListen, Option("--metrics-listen", "ADDR:PORT")] = Field(
        default=Listen("127.0.0.1", 9464),
        description="IP address and TCP port of /metrics; port 0: any that is free; none: no metrics.",
    )


class ControllerSection(_Section):
    """How the controller of a cluster runs."""

    listen: Annotated[_OptionalListen, Option("--listen", "ADDR:PORT")] = Field(
        default=Listen("127.0.0.1", 9443), description="IP address and TCP port for agents and people."
    )
    certificate: Annotated[_OptionalPath, Option("--tls-cert", "FILE")] = Field(
        default=None, description="Its certificate (PEM), read again when replaced; none: plain HTTP."
    )
    key: Annotated[_OptionalPath, Option("--tls-key", "FILE")] = Field(
        default=None, description="The certificate's key (PEM)."
    )
    policies: Annotated[_OptionalPath, Option("--policies", "FILE")] = Field(
        default=None, description="What is traced (docs/policy.md); none: everything."
    )
    agent_tokens: Annotated[_OptionalPath, Option("--agent-tokens", "FILE")] = Field(
        default=None,
        description="Lines NODE TOKEN, for agents outside of a cluster; none: Kubernetes says whose one is.",
    )
    people_token_file: Annotated[_OptionalPath, Option("--people-token-file", "FILE")] = Field(
        default=None, description="File with the token of people; none: people cannot come in."
    )
    namespace: Annotated[_Label, Option("--namespace", "NAME")] = Field(
        default="overhop", description="Kubernetes namespace of the controller's lease and of the agents."
    )
    kubeconfig: Annotated[_OptionalPath, Option("--kubeconfig", "FILE")] = Field(
        default=None, description="Which cluster; none: $KUBECONFIG, the pod's own, ~/.kube/config."
    )


class LoggingSection(_Section):
    """Logs on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Option("--log-level")] = Field(
        default="info", description="The least that is logged: debug, info, warning or error."
    )
    as_json: Annotated[bool, Option("--log-json")] = Field(
        default=False, alias="json", description="One JSON object a line instead of key=value."
    )


class Config(_Section):
    """All settings."""

    cluster: Annotated[_Label, Option("--cluster", "NAME")] = Field(
        default="local", description="Name of the cluster, stored with every row."
    )
    node: Annotated[_Label, Option("--node", "NAME")] = Field(
        default_factory=lambda: os.uname().nodename,
        description="Name of this node, stored with every row; by default its host name.",
    )
    agent: AgentSection = AgentSection()
    store: StoreSection = StoreSection()
    controller: ControllerSection = ControllerSection()
    metrics: MetricsSection = MetricsSection()
    logging: LoggingSection = LoggingSection()


Settings = Mapping[str, object]
"""Values by the name of their setting."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of Config. `path`: its keys in the file; `attributes`: the same as attributes of Config."""

    path: tuple[str, ...]
    attributes: tuple[str, ...]
    option: Option
    doc: str
    default: object
    is_switch: bool

    @property
    def name(self) -> str:
        """`store.path`"""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return ENVIRONMENT_PREFIX + self.option.flag.removeprefix("--").replace("-", "_").upper()

    def of(self, config: Config) -> object:
        """Its value."""
        value: object = config
        for attribute in self.attributes:
            value = getattr(value, attribute)
        return value


def _settings(
    model: type[BaseModel], path: tuple[str, ...] = (), attributes: tuple[str, ...] = ()
) -> Iterator[Setting]:
    for attribute, field in model.model_fields.items():
        here = (*path, field.alias or attribute)
        there = (*attributes, attribute)
        inner: Any = field.annotation  # a type or a form of typing: pydantic says no more
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _settings(inner, here, there)
            continue
        option = next(one for one in field.metadata if isinstance(one, Option))
        default = field.get_default(call_default_factory=True)
        yield Setting(here, there, option, field.description or "", default, inner is bool)


SETTINGS = tuple(_settings(Config))


def setting(flag: str) -> Setting:
    """The setting of an option such as `--store`. Raises KeyError."""
    return {each.option.flag: each for each in SETTINGS}[flag]


def shown(value: object) -> str:
    """A value as it stands in the file."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
