# SPDX-License-Identifier: Apache-2.0
"""Clusters that tests share: an API server alone, and two nodes with overhop in them."""

import os
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
    """Two nodes, overhop and its InfluxDB.

    kube-proxy in iptables mode, or OVERHOP_TEST_PROXY_MODE; flannel's VXLAN, or OVERHOP_TEST_CNI.
    """
    mode = os.environ.get("OVERHOP_TEST_PROXY_MODE", "iptables")
    cni = os.environ.get("OVERHOP_TEST_CNI", "flannel")
    with installation("--proxy-mode", mode, "--cni", cni) as found:
        yield found
