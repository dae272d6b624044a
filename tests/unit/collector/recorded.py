# SPDX-License-Identifier: Apache-2.0
"""Recordings of real nodes (tests/data/nat): their rules, and the objects of the same moment."""

import json
from pathlib import Path
from typing import Any

from collector.cluster import decode
from collector.node.iptables_nat import parse_nat
from collector.node.nat import NatRules
from collector.node.nftables import parse_nft
from collector.snapshot import Snapshot

DATA = Path(__file__).parents[2] / "data" / "nat"
NODES = [(mode, node) for mode in ("iptables", "nftables") for node in ("n1", "n2")]


def objects(mode: str) -> list[Any]:
    """Nodes, Services and EndpointSlices as the API gave them."""
    found: list[Any] = json.loads((DATA / f"{mode}-objects.json").read_text())
    return found


def snapshot(mode: str) -> Snapshot:
    """The same as a snapshot."""
    of_kind: dict[str, list[Any]] = {}
    for each in json.loads((DATA / f"{mode}-objects.json").read_text()):
        of_kind.setdefault(each["kind"], []).append(each)
    nodes = [decode.node(each) for each in of_kind["Node"]]
    services = [decode.service(each) for each in of_kind["Service"]]
    slices = [decode.endpoint_slice(each) for each in of_kind["EndpointSlice"]]
    return Snapshot(
        "c",
        {each.name: each for each in nodes},
        services={(each.namespace, each.name): each for each in services},
        slices={(each.namespace, each.name): each for each in slices},
    )


def rules(mode: str, node: str) -> dict[str, NatRules]:
    """What kube-proxy made of it."""
    if mode == "nftables":
        text = (DATA / f"nftables-{node}.json").read_text()
        return {"ipv4": parse_nft(text, "ipv4"), "ipv6": parse_nft(text, "ipv6")}
    return {
        "ipv4": parse_nat((DATA / f"iptables-{node}.txt").read_text()),
        "ipv6": parse_nat((DATA / f"ip6tables-{node}.txt").read_text()),
    }
