# SPDX-License-Identifier: Apache-2.0
"""A snapshot into JSON and back, and what is no snapshot."""

import json

import pytest

from collector.snapshot import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    Namespace,
    Node,
    NodeInventory,
    Overlay,
    Pod,
    Service,
    ServicePort,
    Snapshot,
)
from collector.snapshot_json import SnapshotError, parse_snapshot, snapshot_json

SNAPSHOT = Snapshot(
    "1f6d02aa",
    {"n1": Node("n1", "u1", ("10.0.0.1", "fd00::1"), ("10.244.1.0/24",), {"zone": "a"}, is_ready=False)},
    {"shop": Namespace("shop", {"team": "ü"})},
    {"p1": Pod("p1", "shop", "web-1", "n1", ("10.244.1.2",), labels={"app": "web"}, workload="web")},
    {
        ("shop", "web"): Service(
            "shop",
            "web",
            "NodePort",
            ("10.96.0.9",),
            ports=(ServicePort("http", "TCP", 80, "8080", 30080),),
            affinity_s=10_800,
        )
    },
    {
        ("shop", "web-x"): EndpointSlice(
            "shop",
            "web-x",
            "web",
            "IPv4",
            (EndpointPort("http", "TCP", 8080),),
            (Endpoint(("10.244.1.2",), "n1", "a", ("a",), "p1", is_terminating=True),),
        )
    },
    {"n1": NodeInventory("n1", ("eth0",), "", (Overlay("flannel.1", "vxlan", 1, 8472, 1450, "eth0"),), 2)},
)


def test_snapshot_comes_back_as_it_was() -> None:
    assert parse_snapshot(json.dumps(snapshot_json(SNAPSHOT)).encode()) == SNAPSHOT


def test_fields_with_a_default_may_be_left_out() -> None:
    assert parse_snapshot(b'{"cluster": "c"}') == Snapshot("c")
    text = b'{"cluster":"c","pods":[{"uid":"u","namespace":"s","name":"p","node":"n"}]}'
    assert parse_snapshot(text).pods == {"u": Pod("u", "s", "p", "n")}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Invalid JSON"),
        (b"[]", "should be an object"),
        (b"{}", "cluster: Field required"),
        (b'{"cluster":"c","nodez":[]}', "nodez: Extra inputs are not permitted"),
        (
            b'{"cluster":"c","nodes":[{"name":7,"uid":"u","addresses":[]}]}',
            "nodes.0.name: Input should be a valid string",
        ),
        (b'{"cluster":"c","namespaces":[{"name":"a"},{"name":"a"}]}', "namespace a is there twice"),
        (b'{"cluster":"c","namespaces":[{"name":"a","labels":{"b":1}}]}', "namespaces.0.labels.b"),
        (b"[" * 100_000, "Invalid JSON"),
    ],
)
def test_what_is_no_snapshot_is_one_line(data: bytes, said: str) -> None:
    with pytest.raises(SnapshotError) as refused:
        parse_snapshot(data)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_many_problems_are_counted() -> None:
    namespaces = [{"name": at} for at in range(50)]
    with pytest.raises(SnapshotError, match=r"\(and 45 more\)$"):
        parse_snapshot(json.dumps({"cluster": "c", "namespaces": namespaces}).encode())
