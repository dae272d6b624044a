# SPDX-License-Identifier: Apache-2.0
"""The cluster as its API server has it now."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from overhop import errors

if TYPE_CHECKING:
    from collector.cluster.api import Api
    from collector.snapshot import Snapshot

WAIT_S: Final = 60.0
_LOOK_S: Final = 0.1


def live_snapshot(api: "Api", wait_s: float = WAIT_S) -> "Snapshot":
    """All of it, listed once. Raises UsageError: the API server refuses, or is too slow."""
    from collector.cluster.api import ApiError
    from collector.cluster.cluster import Cluster
    from collector.cluster.state import ClusterState

    state = ClusterState()
    cluster = Cluster(api, state)
    try:
        cluster.identify()
    except ApiError as error:
        raise errors.UsageError(str(error)) from None
    with cluster:
        until_s = time.monotonic() + wait_s
        while not cluster.wait(_LOOK_S):
            if cluster.is_refused or time.monotonic() > until_s:
                raise errors.UsageError(_why(cluster.problems, wait_s))
        return state.snapshot()


def _why(problems: Mapping[str, str], wait_s: float) -> str:
    """One line: the same is mostly wrong with all kinds."""
    if not problems:
        return f"the Kubernetes API did not answer within {wait_s:g} s"
    first = next(iter(problems.values()))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{first}{more}"
