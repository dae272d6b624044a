# SPDX-License-Identifier: Apache-2.0
"""The cluster as its API server has it now."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from overhop import errors

if TYPE_CHECKING:
    from collector.cluster.api import Api
    from collector.snapshot import Snapshot

WAIT_S: Final = 60.0


def live_snapshot(api: "Api", wait_s: float = WAIT_S) -> "Snapshot":
    """All of it, listed once. Raises UsageError: the API server refuses, or is too slow."""
    from collector.cluster.api import ApiError
    from collector.cluster.cluster import Cluster
    from collector.cluster.state import ClusterState

    state = ClusterState()
    with Cluster(api, state) as cluster:
        try:
            cluster.identify()
        except ApiError as error:
            raise errors.UsageError(str(error)) from None
        if not cluster.wait(wait_s):
            raise errors.UsageError(_why(cluster.problems, wait_s))
        return state.snapshot()


def _why(problems: Mapping[str, str], wait_s: float) -> str:
    """One line: the same is mostly wrong with all kinds."""
    if not problems:
        return f"the Kubernetes API did not answer within {wait_s:g} s"
    first = next(iter(problems.values()))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{first}{more}"
