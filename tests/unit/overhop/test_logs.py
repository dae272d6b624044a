# SPDX-License-Identifier: Apache-2.0
import io
import json
import logging

import pytest

from overhop import logs


def test_configure_key_value_writes_extra_fields() -> None:
    stream = io.StringIO()
    logs.configure("info", stream=stream)
    logging.getLogger("agent.attach").info("attached", extra={"ifname": "eth0", "peer": "a b"})
    assert stream.getvalue().split(" ", 1)[1] == (
        'level=info logger=agent.attach msg=attached ifname=eth0 peer="a b"\n'
    )


def test_configure_json_writes_one_object_a_line() -> None:
    stream = io.StringIO()
    logs.configure("info", as_json=True, stream=stream)
    logging.getLogger("agent").warning("lost", extra={"records": 3})
    found = json.loads(stream.getvalue())
    assert found.pop("ts").endswith("+00:00")
    assert found == {"level": "warning", "logger": "agent", "msg": "lost", "records": 3}


def test_configure_hostile_value_stays_on_its_line() -> None:
    stream = io.StringIO()
    logs.configure("info", stream=stream)
    logging.getLogger("a").info("name", extra={"pod": "x\nlevel=error\x1b[0m"})
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith('pod="x\\\\nlevel=error\\\\x1b[0m"\n')


def test_configure_level_drops_what_is_below() -> None:
    stream = io.StringIO()
    logs.configure("warning", stream=stream)
    logging.getLogger("a").info("quiet")
    assert stream.getvalue() == ""


def test_configure_debug_drops_what_a_library_says_by_no_name() -> None:
    stream = io.StringIO()
    logs.configure("debug", stream=stream)
    logging.getLogger().debug("Cannot parse error response to JSON: a token")
    logging.getLogger("root.a").debug("said")
    assert stream.getvalue().split(" ", 1)[1] == "level=debug logger=root.a msg=said\n"


def test_configure_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="log level 'loud' is unknown, known: debug, info, warning, error"):
        logs.configure("loud")
