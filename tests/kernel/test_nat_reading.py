# SPDX-License-Identifier: Apache-2.0
"""Rules that the kernel has, of nftables and both kinds of iptables at once, as a node may have them."""

import json
from pathlib import Path
from typing import Any

from collector.node.nat import Backend, NatRules, Service
from collector.node.nat_reading import read_nat
from collector.node.nftables import parse_nft
from overhop.lab.netns import Netns
from tests.require import require_commands

DATA = Path(__file__).parents[1] / "data" / "nat"
LEGACY = "*nat\n-A PREROUTING -d 192.0.2.9/32 -p tcp --dport 1 -j DNAT --to-destination 10.0.0.1:1\nCOMMIT\n"


def read(netns: Netns) -> NatRules:
    with netns.entered():
        return read_nat()["ipv4"]


def kube_proxy() -> str:
    """kube-proxy's tables out of the recording, in an order in which they can be loaded."""
    recorded: Any = json.loads((DATA / "nftables-n1.json").read_text())
    entries: dict[str, list[Any]] = {kind: [] for kind in ("table", "chain", "set", "map", "rule")}
    for entry in recorded["nftables"]:
        [(kind, value)] = entry.items()
        if value.get("name" if kind == "table" else "table") == "kube-proxy":
            entries[kind].append({"add": entry})
    return json.dumps({"nftables": [each for of_kind in entries.values() for each in of_kind]})


def test_read_nat_gives_back_what_was_recorded(netns: Netns) -> None:
    require_commands("nft", "iptables-save")
    netns.run(("nft", "-j", "-f", "-"), text=kube_proxy())
    found = read(netns)
    recorded = parse_nft((DATA / "nftables-n1.json").read_text(), "ipv4")
    assert set(found.services) == set(recorded.services)
    assert (found.read, found.reason, found.not_understood) == (True, "", 0)


def test_read_nat_joins_iptables_legacy_iptables_and_nftables(netns: Netns) -> None:
    require_commands("nft", "iptables-nft-restore", "iptables-legacy-restore", "iptables-legacy-save")
    netns.run(("nft", "-f", "-"), text=(DATA / "nftables-others.nft").read_text())
    netns.run(("iptables-nft-restore",), text=(DATA / "nftables-n1-iptables.txt").read_text())
    netns.run(("iptables-legacy-restore",), text=LEGACY)
    found = read(netns)
    for service in (
        Service("host-port", "", "tcp", "", 8081, (Backend("10.244.0.2", 80, 1.0),), ""),
        Service("host-port", "", "tcp", "", 8080, (Backend("172.17.0.2", 80, 1.0),), ""),
        Service("dnat", "", "tcp", "192.0.2.9", 1, (Backend("10.0.0.1", 1, 1.0),), ""),
    ):
        assert service in found.services
    assert (found.read, found.reason, found.not_understood) == (True, "", 7)


def test_read_nat_of_a_table_called_nat_that_nft_made_is_understood(netns: Netns) -> None:
    require_commands("nft", "iptables-save")
    netns.run(
        ("nft", "-f", "-"),
        text="""
        table ip nat {
            chain pre {
                type nat hook prerouting priority -100;
                tcp dport 80 dnat to 10.0.0.1:8080
            }
        }""",
    )
    assert read(netns).services == (
        Service("host-port", "", "tcp", "", 80, (Backend("10.0.0.1", 8080, 1.0),), ""),
    )


def test_read_nat_without_rules_is_read_and_empty(netns: Netns) -> None:
    require_commands("nft", "iptables-save")
    assert read(netns) == NatRules(read=True)
