# SPDX-License-Identifier: Apache-2.0
"""Clusters that tests share: an API server alone, and one of two nodes."""

from collections.abc import Iterator

import pytest

from tests.kubernetes import Kubernetes, kubernetes


@pytest.fixture(scope="session")
def api_server() -> Iterator[Kubernetes]:
    """An API server with controllers, without nodes: tests create nodes and pods as objects."""
    with kubernetes("--api-only", "--controllers") as cluster:
        yield cluster
