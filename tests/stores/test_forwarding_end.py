# SPDX-License-Identifier: Apache-2.0
"""An agent that ends at once: its forwarder, which has not even begun, sends what waits all the same."""

import time
from pathlib import Path

import pytest

from agent.storing.forwarding import ForwardConfig, Forwarding
from store.appender import Appender
from tests.stores.fake_server import fake_server
from tests.unit.store.rows import events, segments


@pytest.mark.parametrize("is_started", [True, False], ids=["while it starts", "before it was started"])
def test_forwarding_closed_early_sends_what_waits(tmp_path: Path, is_started: bool) -> None:
    spool = tmp_path / "spool"
    with fake_server(lambda *_: (204, {}, b"")) as server:
        target = f"influxdb1://{server.url.removeprefix('http://')}/"
        config = ForwardConfig(target, None, None, spool, 1 << 30, 1e6, 1e6)
        with Appender(spool, "c", "n1") as appender:
            appender.append(events("a"))
        forwarding = Forwarding(config, "n1")
        if is_started:
            forwarding.poll(time.monotonic_ns())
        forwarding.close()
    assert server.asked == [("POST", "/write?db=overhop_events&precision=ns")]
    assert segments(spool, table="event") == []
    assert forwarding.facts is not None
    assert forwarding.facts.sent["event"] == 1
