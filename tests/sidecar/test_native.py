# SPDX-License-Identifier: Apache-2.0
"""The native module and the Envoy that loads it: what each asks of the other."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from overhop.lab.envoy import find_envoy
from overhop.sidecar.contexts import Relocation
from overhop.sidecar.filters import Data, upstream_filters, whole_chain
from overhop.sidecar.module import FILE, SEARCH_PATH
from overhop.sidecar.protocols import upstream_protocol
from tests.e2e.envoy import require_envoy
from tests.sidecar.filtering import Filtering
from tests.sidecar.proxy import cluster, exchange, listener, validate
from tests.sidecar.recorder import recording_http1

EVENT = re.compile(rb"\0(envoy_dynamic_module_on_(?:http_filter|program)_[a-z_]+)(?=\0)")
HEAD = b"GET / HTTP/1.1\r\nhost: shop\r\n"
COUNTERS = ("relocated_total", "relocate_held_total", "relocate_skipped_total", "relocate_errors_total")


@pytest.fixture(autouse=True)
def program() -> None:
    require_envoy()


@pytest.fixture
def native(modules: Path, tmp_path: Path) -> Filtering:
    return Filtering("native", modules, tmp_path)


def bootstrap(change: Callable[[Data], None]) -> Data:
    """A cluster with the native filter, its configuration changed."""
    (made,) = upstream_filters("native", Relocation(("b3",)))
    change(made["typed_config"])  # type: ignore[arg-type]
    options = upstream_protocol("h1") | {"http_filters": whole_chain([made])}
    return {"static_resources": {"clusters": [cluster("moved", [1], options)]}}


def complaint(native: Filtering, value: str) -> str:
    """Envoy's, of the names."""

    def change(config: Data) -> None:
        config["filter_config"] = {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": value}

    return validate(bootstrap(change), {SEARCH_PATH: str(native.modules)})


def test_native_exports_every_event_that_this_envoy_knows(native: Filtering) -> None:
    wanted = set(EVENT.findall(find_envoy().read_bytes()))
    assert len(wanted) > 25
    assert set(EVENT.findall((native.modules / FILE).read_bytes())) >= wanted


def test_native_config_is_taken_by_envoy(native: Filtering) -> None:
    assert complaint(native, "traceparent, b3") == ""


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("", 'relocate: header "": is empty'),
        ("b3,host", 'relocate: header "host": comes first anyway'),
        ("b3,B3", 'relocate: header "B3": is no name of a header in lower case (RFC 9110 section 5.1)'),
    ],
)
def test_native_config_that_is_wrong_is_refused_with_the_reason(
    native: Filtering, names: str, reason: str
) -> None:
    said = complaint(native, names)
    assert reason in said
    assert "Failed to initialize dynamic module" in said


def test_native_config_for_a_route_is_refused(native: Filtering) -> None:
    kind = "type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3"
    routes = listener("moved", {"cluster": "moved"})
    manager = routes["filter_chains"][0]["filters"][0]["typed_config"]  # type: ignore[index]
    manager["http_filters"].insert(
        0,
        {
            "name": "native",
            "typed_config": {
                "@type": f"{kind}.DynamicModuleFilter",
                "dynamic_module_config": {"name": "relocate"},
                "filter_name": "relocate",
                "filter_config": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "b3"},
            },
        },
    )
    manager["route_config"]["virtual_hosts"][0]["typed_per_filter_config"] = {
        "native": {
            "@type": f"{kind}.DynamicModuleFilterPerRoute",
            "dynamic_module_config": {"name": "relocate"},
            "per_route_config_name": "relocate",
        }
    }
    config: Data = {"static_resources": {"listeners": [routes], "clusters": [cluster("moved", [1])]}}
    assert "Failed to initialize per-route dynamic module" in validate(
        config, {SEARCH_PATH: str(native.modules)}
    )


def test_native_counts_what_became_of_requests(native: Filtering) -> None:
    with recording_http1() as server:
        moved = native.cluster("moved", server, upstream_protocol("h1"))
        with native.envoy([listener("moved", {"cluster": "moved"})], [moved]) as proxy:
            for lines in (
                b"a: 1\r\n",
                b"a: 1\r\nb3: 0\r\n",
                b"b3: 0\r\na: 1\r\n",
                b"a:\r\nb: 1\r\nb3: 0\r\n",
            ):
                assert exchange(proxy.ports["moved"], HEAD + lines + b"\r\n").startswith(b"HTTP/1.1 200 OK")
            counted = [proxy.statistic(f"cluster.moved.dynamicmodulescustom.{name}") for name in COUNTERS]
            assert counted == [2, 1, 0, 0]
            # The module tells the version of the ABI that this Envoy has: no warning of another.
            assert "deprecated" not in proxy.log.read_text()
