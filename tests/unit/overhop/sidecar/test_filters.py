# SPDX-License-Identifier: Apache-2.0
from typing import Any

import pytest

from overhop.sidecar.contexts import Relocation
from overhop.sidecar.filters import lua_source, upstream_filters
from overhop.sidecar.fragment import envoy_fragment
from overhop.sidecar.istio import envoy_filter
from overhop.sidecar.module import ModuleMissingError, module_directory
from overhop.sidecar.wish import Given, parse_wish


def test_filters_of_the_stock_order_are_none() -> None:
    assert upstream_filters("off", Relocation()) == []


def test_lua_source_begins_with_the_headers_in_their_order() -> None:
    text = lua_source(Relocation(("x-b3-traceid", "traceparent")))
    first, second = text.splitlines()[:2]
    assert first == 'local CONTEXT_HEADERS = {"x-b3-traceid", "traceparent"}'
    assert second == "-- SPDX-License-Identifier: Apache-2.0"


def test_filters_of_the_module_name_it_and_the_headers() -> None:
    (made,) = upstream_filters("native", Relocation(("b3", "traceparent")))
    config: Any = made["typed_config"]
    assert config["dynamic_module_config"] == {"name": "relocate"}
    assert config["filter_config"]["value"] == "b3,traceparent"


def test_envoy_fragment_is_of_the_router_or_of_clusters() -> None:
    router: Any = envoy_fragment(parse_wish(Given("envoy")))
    assert [each["name"] for each in router["http_filters"]] == ["envoy.filters.http.router"]
    clusters: Any = envoy_fragment(parse_wish(Given("envoy", protocols=("h2", "h1"))))
    assert [each["name"] for each in clusters["clusters"]] == [
        "a cluster that speaks h2",
        "a cluster that speaks h1",
    ]


def test_envoy_filter_of_a_workload_has_a_name_of_its_own() -> None:
    one: Any = envoy_filter(parse_wish(Given("istio", namespace="shop", selector=("app=a",))))
    other: Any = envoy_filter(parse_wish(Given("istio", namespace="shop", selector=("app=b",))))
    assert one["spec"]["workloadSelector"] == {"labels": {"app": "a"}}
    assert one["metadata"]["namespace"] == "shop"
    assert len({one["metadata"]["name"], other["metadata"]["name"], "overhop-relocation"}) == 3


def test_module_directory_without_the_module_says_how_to_get_it() -> None:
    with pytest.raises(
        ModuleMissingError, match=r"^OVERHOP_SIDECAR_MODULE=/nonexistent: no librelocate.so there: run"
    ):
        module_directory({"OVERHOP_SIDECAR_MODULE": "/nonexistent"})
