# SPDX-License-Identifier: Apache-2.0
"""Real servers, one of each for a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.influxdb.http import Connection
from store.influxdb.target import Secret, parse_target
from tests.servers import Server, influxdb1, influxdb2


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """InfluxDB 2 and 1."""
    with influxdb2(directory(tmp_path_factory)) as two, influxdb1(directory(tmp_path_factory)) as one:
        yield {"influxdb2": two, "influxdb1": one}


@pytest.fixture(params=["influxdb2", "influxdb1"])
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    """One after the other."""
    return servers[request.param]


def directory(factory: pytest.TempPathFactory) -> Path:
    return factory.mktemp("server")


def connected(server: Server, prefix: str = "overhop") -> Connection:
    """As the administrator; `prefix` keeps tests apart."""
    target = parse_target(f"{server.target}?prefix={prefix}")
    return Connection(target, Secret(server.token) if server.token else None)
