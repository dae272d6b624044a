# SPDX-License-Identifier: Apache-2.0
"""An Envoy that takes listeners and clusters from files, which are swapped under it."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from overhop.sidecar.filters import Data
from overhop.sidecar.protocols import upstream_protocol
from tests.kernel.leaks import wait_until
from tests.sidecar.filtering import Filtering
from tests.sidecar.proxy import Proxy, address, cluster, listener
from tests.sidecar.recorder import Recorder

_SWAP_TIMEOUT_S = 20.0
_RESOURCES = {
    "lds": "type.googleapis.com/envoy.config.listener.v3.Listener",
    "cds": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
}


@dataclass
class Reloaded:
    """The Envoy, its port, and how often its configuration was swapped."""

    proxy: Proxy
    port: int
    swaps: int = 0


class Reloading:
    """A listener `moved` and a cluster of that name, told by files."""

    def __init__(self, filtering: Filtering, server: Recorder) -> None:
        self._filtering, self._server = filtering, server
        self._files = filtering.files
        self._port = _free_port()

    @contextmanager
    def running(self) -> Iterator[Reloaded]:
        """The Envoy, until the end of the block."""
        self._write(0)
        sources = {name: self._files / f"{name}.json" for name in _RESOURCES}
        bootstrap: Data = {
            "node": {"id": "shop", "cluster": "shop"},
            "dynamic_resources": {
                f"{name}_config": {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}
                for name, path in sources.items()
            },
        }
        with self._filtering.running(bootstrap) as proxy:
            wait_until(lambda: all(_updates(proxy)), "the listener is there", _SWAP_TIMEOUT_S)
            yield Reloaded(proxy, self._port)

    def swap(self, reloaded: Reloaded) -> None:
        """Another version of listener and cluster: with the filter, without it, ... Envoy took it."""
        before = _updates(reloaded.proxy)
        reloaded.swaps += 1
        self._write(reloaded.swaps)
        wait_until(
            lambda: all(now > then for now, then in zip(_updates(reloaded.proxy), before, strict=True)),
            "swapped",
            _SWAP_TIMEOUT_S,
        )

    def _write(self, version: int) -> None:
        made = listener("moved", {"cluster": "moved"}, server_name=f"version-{version}")
        made["address"] = address(self._port)
        h1 = upstream_protocol("h1")
        if version % 2 == 0:
            to_server = self._filtering.cluster("moved", self._server, h1)
        else:
            to_server = cluster("moved", [self._server.port], h1)
        to_server["connect_timeout"] = f"{5 + version}s"
        for name, resource in (("cds", to_server), ("lds", made)):
            data = {"version_info": str(version), "resources": [{"@type": _RESOURCES[name], **resource}]}
            following = self._files / f"{name}.next"
            following.write_text(json.dumps(data))
            os.replace(following, self._files / f"{name}.json")  # Envoy watches for a file that is moved here


def _updates(proxy: Proxy) -> tuple[int, ...]:
    """How many of each were taken. None may be refused."""
    managers = ("listener_manager.lds", "cluster_manager.cds")
    refused = sum(proxy.statistic(f"{manager}.update_rejected") for manager in managers)
    assert refused == 0, proxy.log.read_text()[-2000:]
    return tuple(proxy.statistic(f"{manager}.update_success") for manager in managers)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
