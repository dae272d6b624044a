# SPDX-License-Identifier: Apache-2.0
from ipaddress import ip_address

import pytest

from agent.naming.marks import (
    Mark,
    address_mark,
    interface_mark,
    is_mark,
    marks_in,
    node_port_mark,
    parse_mark,
    service_mark,
    shown,
    uid_mark,
)
from agent.naming.tables import packed


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        (address_mark(packed(ip_address("10.0.0.1"))), Mark("address", "10.0.0.1")),
        (address_mark(packed(ip_address("fd00::1"))), Mark("address", "fd00::1")),
        (uid_mark("a-b"), Mark("uid", "a-b")),
        (interface_mark("veth1"), Mark("interface", "veth1")),
        (service_mark(packed(ip_address("10.96.0.1")), 80), Mark("service", "10.96.0.1", 80)),
        (service_mark(packed(ip_address("fd00::5")), 443), Mark("service", "fd00::5", 443)),
        (node_port_mark(30080), Mark("node_port", "", 30080)),
    ],
)
def test_mark_says_what_is_to_be_asked(text: str, mark: Mark) -> None:
    assert is_mark(text)
    assert parse_mark(text) == mark


def test_names_are_no_marks() -> None:
    assert marks_in(["web", "", "unknown", "?a10.0.0.1"]) == {"?a10.0.0.1"}


def test_shown_is_an_address_or_nothing_yet() -> None:
    assert [shown(each) for each in ("web", "?a10.0.0.1", "?uu1", "?s10.96.0.1 80")] == [
        "web", "10.0.0.1", "...", "...",
    ]  # fmt: skip
