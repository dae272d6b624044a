# SPDX-License-Identifier: Apache-2.0
"""A snapshot as JSON, to be kept and looked at: lists of objects with the fields of collector.snapshot."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from collector.snapshot import EndpointSlice, Namespace, Node, NodeInventory, Pod, Service, Snapshot

MAX_BYTES: Final = 1 << 30
"""150,000 pods are some 100 MB."""
_SHOWN: Final = 5


class SnapshotError(Exception):
    """It cannot be read; one line says what is wrong."""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    cluster: str
    nodes: Sequence[Node] = ()
    namespaces: Sequence[Namespace] = ()
    pods: Sequence[Pod] = ()
    services: Sequence[Service] = ()
    slices: Sequence[EndpointSlice] = ()
    inventories: Sequence[NodeInventory] = ()


def parse_snapshot(data: bytes) -> Snapshot:
    """The snapshot in `data`. Raises SnapshotError."""
    if len(data) > MAX_BYTES:
        raise SnapshotError(f"a snapshot of {len(data)} bytes, at most {MAX_BYTES} are read")
    try:
        found = _Document.model_validate_json(data)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        wrong = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}".removeprefix(": ") for each in details]
        more = f" (and {len(wrong) - _SHOWN} more)" if len(wrong) > _SHOWN else ""
        raise SnapshotError("; ".join(wrong[:_SHOWN]) + more) from None
    except RecursionError:
        raise SnapshotError("it is nested too deeply") from None
    return Snapshot(
        found.cluster,
        _by("node", found.nodes, "name"),
        _by("namespace", found.namespaces, "name"),
        _by("pod", found.pods, "uid"),
        _by("service", found.services, "namespace", "name"),
        _by("slice", found.slices, "namespace", "name"),
        _by("inventory", found.inventories, "node"),
    )


def snapshot_json(snapshot: Snapshot) -> Mapping[str, object]:
    """What `parse_snapshot` reads, as plain data."""
    parts = ("nodes", "namespaces", "pods", "services", "slices", "inventories")
    lists = {part: [asdict(each) for each in getattr(snapshot, part).values()] for part in parts}
    return {"cluster": snapshot.cluster, **lists}


def _by(kind: str, objects: Sequence[Any], *names: str) -> dict[Any, Any]:
    """Raises SnapshotError: two have the same name."""
    found: dict[Any, Any] = {}
    for each in objects:
        key = tuple(getattr(each, name) for name in names)
        if key in found:
            raise SnapshotError(f"{kind} {'/'.join(key)} is there twice")
        found[key] = each
    return found if len(names) > 1 else {key: each for (key,), each in found.items()}
