# SPDX-License-Identifier: Apache-2.0
"""Clusters that tests share: an API server alone, and two nodes with overhop in them."""

from collections.abc import Iterator

import pytest

from tests.cluster.installation import Installation, installation
from tests.kubernetes import Kubernetes, kubernetes


@pytest.fixture(scope="session")
def api_server() -> Iterator[Kubernetes]:
    """An API server with controllers, without nodes: tests create nodes and pods as objects."""
    with kubernetes("--api-only", "--controllers") as cluster:
        yield cluster


@pytest.fixture(scope="session")
def installed() -> Iterator[Installation]:
    """Two nodes, kube-proxy in iptables mode, overhop and its InfluxDB."""
    with installation() as found:
        yield found
