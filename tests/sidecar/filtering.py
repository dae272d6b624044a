# SPDX-License-Identifier: Apache-2.0
"""Envoys on loopback with either variant of the filter."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from overhop.sidecar.contexts import Relocation
from overhop.sidecar.filters import Data, Variant, upstream_filters, whole_chain
from overhop.sidecar.module import SEARCH_PATH
from tests.sidecar.proxy import Proxy, cluster, envoy, running
from tests.sidecar.recorder import Recorder

ERRORS = {"lua": "lua.errors", "native": "dynamicmodulescustom.relocate_errors_total"}
"""Of the filter, below its cluster: requests that it left as they were since something failed."""


@dataclass(frozen=True, slots=True)
class Filtering:
    """A variant, with the directory of the native module and one for files of Envoys."""

    variant: Variant
    modules: Path
    files: Path

    def cluster(self, name: str, server: Recorder, protocol: Data) -> Data:
        """One that relocates."""
        chain = whole_chain(upstream_filters(self.variant, Relocation()))
        return cluster(name, [server.port], protocol | {"http_filters": chain})

    def envoy(self, listeners: Sequence[Data], clusters: Sequence[Data]) -> AbstractContextManager[Proxy]:
        """Runs until the end of the block."""
        return envoy(self.files, listeners, clusters, {SEARCH_PATH: str(self.modules)})

    def running(self, bootstrap: Data) -> AbstractContextManager[Proxy]:
        """One with this configuration."""
        return running(self.files, bootstrap, {SEARCH_PATH: str(self.modules)})

    def errors(self, proxy: Proxy, cluster: str = "moved") -> int:
        """Of the filter in a cluster."""
        return proxy.statistic(f"cluster.{cluster}.{ERRORS[self.variant]}")
