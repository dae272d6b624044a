# SPDX-License-Identifier: Apache-2.0
"""What somebody wants rendered: parsed and checked once, all problems at once (pure)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from overhop.sidecar.contexts import DEFAULT_HEADERS, Relocation, problems
from overhop.sidecar.filters import VARIANTS, Variant
from overhop.sidecar.protocols import PROTOCOLS, Protocol

Target = Literal["envoy", "istio"]
TARGETS: Final[tuple[Target, ...]] = get_args(Target)
ROOT_NAMESPACE: Final = "istio-system"
"""Where Istio looks for what is meant for the whole mesh, unless its meshConfig says otherwise."""
_PORTS: Final = range(1, 65536)
_HOST: Final = re.compile(r"[a-z0-9*]([a-z0-9.*-]*[a-z0-9])?")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL: Final = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_KNOWN: Final[Mapping[str, Protocol]] = {each: each for each in PROTOCOLS}
_VARIANTS: Final[Mapping[str, Variant]] = {each: each for each in VARIANTS}
_TARGETS: Final[Mapping[str, Target]] = {each: each for each in TARGETS}


class WishError(ValueError):
    """It cannot be rendered; `problems` has one line for each reason."""

    def __init__(self, found: Sequence[str]) -> None:
        super().__init__("; ".join(found))
        self.problems = tuple(found)


@dataclass(frozen=True, slots=True)
class OfCluster:
    """A class of clusters: the protocol that its clusters speak and, in Istio, whose they are."""

    protocol: Protocol
    service: str = ""
    """Host name of the service; empty: not said."""
    port: int | None = None
    """None: all of its ports."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is rendered, and where it goes."""

    target: Target
    variant: Variant
    relocation: Relocation
    protocols: tuple[OfCluster, ...] = ()
    """None: by the router, whatever clusters speak."""
    namespace: str = ROOT_NAMESPACE
    selector: Mapping[str, str] = field(default_factory=dict)
    """Labels of the pods; empty: all of the namespace, of the root namespace all of the mesh."""


@dataclass(frozen=True, slots=True)
class Given:
    """The same as text, as options have it."""

    target: str
    variant: str = "lua"
    headers: str = ",".join(DEFAULT_HEADERS)
    protocols: Sequence[str] = ()
    namespace: str = ROOT_NAMESPACE
    selector: Sequence[str] = ()


def parse_wish(given: Given) -> Wish:
    """Raises WishError, with all that is wrong."""
    found: list[str] = []
    headers = tuple(each.strip() for each in given.headers.split(","))
    found += [f"--headers: {each}" for each in problems(headers)]
    clusters = [_cluster(text, given.target, found) for text in given.protocols]
    found += _contradictions([each for each in clusters if each])
    selector = dict(_label(text, found) for text in given.selector)
    if not _NAME.fullmatch(given.namespace):
        found.append(f"--namespace {given.namespace}: is no name of a namespace")
    variant, target = _VARIANTS.get(given.variant), _TARGETS.get(given.target)
    if target is None:
        found.append(f"--target {given.target}: known are {', '.join(TARGETS)}")
    if variant is None:
        found.append(f"--variant {given.variant}: known are {', '.join(VARIANTS)}")
    if target == "istio" and variant == "native":
        found.append(
            "--variant native: Istio's proxies do not have librelocate.so, and would refuse all of their "
            "configuration: use lua"
        )
    if target == "envoy" and given.selector:
        found.append("--selector: an Envoy is not selected by labels: that is for --target istio")
    if found or target is None or variant is None:
        raise WishError(found)
    kept = tuple(each for each in clusters if each)
    return Wish(target, variant, Relocation(headers), kept, given.namespace, selector)


def _cluster(text: str, target: str, found: list[str]) -> OfCluster | None:
    """One `CLASS[=SERVICE[:PORT]]`."""
    name, _, whose = text.partition("=")
    service, _, port = whose.partition(":")
    protocol, before = _KNOWN.get(name), len(found)
    if protocol is None:
        found.append(
            f"--protocol {text}: {name or 'nothing'} is unknown, and its options would be lost: "
            f"known are {', '.join(PROTOCOLS)}"
        )
    if target == "istio" and not service:
        found.append(f"--protocol {text}: say whose clusters: {name}=SERVICE[:PORT]")
    if target == "envoy" and whose:
        found.append(f"--protocol {text}: give the protocol alone: which clusters speak it, you know")
    if service and not _HOST.fullmatch(service):
        found.append(f"--protocol {text}: {service} is no name of a host")
    if port and not (port.isdecimal() and int(port) in _PORTS):
        found.append(f"--protocol {text}: {port} is no port")
    if protocol is None or len(found) > before:
        return None
    return OfCluster(protocol, service, int(port) if port else None)


def _contradictions(clusters: Sequence[OfCluster]) -> list[str]:
    """Clusters that are given twice: the later patch would win."""
    found = []
    for at, one in enumerate(clusters):
        for other in clusters[:at]:
            same_port = one.port == other.port or None in (one.port, other.port)
            if one.service and one.service == other.service and same_port:
                found.append(f"--protocol: {one.service} is given twice for the same port")
    return found


def _label(text: str, found: list[str]) -> tuple[str, str]:
    name, has_value, value = text.partition("=")
    if not has_value or not _LABEL.fullmatch(name) or not _LABEL_VALUE.fullmatch(value):
        found.append(f"--selector {text}: write LABEL=VALUE, as pods have it")
    return name, value
