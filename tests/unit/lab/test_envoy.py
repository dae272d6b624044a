# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from typing import Any

import pytest

from overhop.lab.envoy import Destination, EnvoyMissingError, Sidecar, bootstrap, find_envoy

REVIEWS = Destination("reviews", "10.96.0.12", 9080)


def rendered(version: int = 4) -> Any:  # noqa: ANN401  Envoy's own data
    return json.loads(json.dumps(bootstrap(Sidecar("productpage", "bookinfo", version, [REVIEWS]))))


def manager(listener: Any) -> Any:  # noqa: ANN401
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def test_bootstrap_listens_where_istios_rules_lead_to() -> None:
    listeners = rendered()["static_resources"]["listeners"]
    assert [(each["traffic_direction"], each["address"]["socket_address"]) for each in listeners] == [
        ("INBOUND", {"address": "0.0.0.0", "port_value": 15006}),
        ("OUTBOUND", {"address": "0.0.0.0", "port_value": 15001}),
    ]


def test_bootstrap_ipv6_listens_and_calls_its_pod_from_ipv6_addresses() -> None:
    resources = rendered(6)["static_resources"]
    assert {each["address"]["socket_address"]["address"] for each in resources["listeners"]} == {"::"}
    inbound = resources["clusters"][0]
    assert inbound["upstream_bind_config"]["source_address"] == {"address": "::6", "port_value": 0}


def test_bootstrap_hands_requests_to_the_application_from_the_address_that_the_rules_let_through() -> None:
    inbound = rendered()["static_resources"]["clusters"][0]
    assert (inbound["type"], inbound["lb_policy"]) == ("ORIGINAL_DST", "CLUSTER_PROVIDED")
    assert inbound["upstream_bind_config"]["source_address"]["address"] == "127.0.0.6"


def test_bootstrap_chooses_a_cluster_by_name_and_lets_the_rest_pass() -> None:
    resources = rendered()["static_resources"]
    named, rest = manager(resources["listeners"][1])["route_config"]["virtual_hosts"]
    assert named["domains"] == ["reviews", "reviews:9080", "reviews.bookinfo", "reviews.bookinfo:9080"]
    assert named["routes"][0]["route"]["cluster"] == "outbound|9080||reviews"
    assert (rest["domains"], rest["routes"][0]["route"]["cluster"]) == (["*"], "passthrough")
    (cluster,) = (each for each in resources["clusters"] if each["name"] == "outbound|9080||reviews")
    end_point = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert end_point["address"]["socket_address"] == {"address": "10.96.0.12", "port_value": 9080}


def test_bootstrap_traces_every_request_to_the_pods_own_loopback() -> None:
    resources = rendered()["static_resources"]
    for listener in resources["listeners"]:
        tracing = manager(listener)["tracing"]
        assert tracing["random_sampling"] == {"value": 100}
        assert tracing["provider"]["name"] == "envoy.tracers.opentelemetry"
    assert resources["clusters"][-1]["name"] == "spans"
    assert "access_log" not in json.dumps(resources)


def test_bootstrap_moves_the_context_of_what_leaves_the_pod_unless_told_not_to() -> None:
    clusters = rendered()["static_resources"]["clusters"]
    assert [each["name"] for each in clusters if "typed_extension_protocol_options" in each] == [
        "passthrough",
        "outbound|9080||reviews",
    ]
    stock = bootstrap(Sidecar("productpage", "bookinfo", 4, [REVIEWS], relocation="off"))
    assert "typed_extension_protocol_options" not in json.dumps(stock)


def test_bootstrap_with_zipkin_hands_on_b3_and_w3c() -> None:
    made = json.loads(
        json.dumps(bootstrap(Sidecar("productpage", "bookinfo", 4, [REVIEWS], tracer="zipkin")))
    )
    config = manager(made["static_resources"]["listeners"][1])["tracing"]["provider"]["typed_config"]
    assert config["trace_context_option"] == "USE_B3_WITH_W3C_PROPAGATION"
    assert config["collector_cluster"] == "spans"


def test_find_envoy_named_program_comes_first(tmp_path: Path) -> None:
    program = tmp_path / "envoy"
    program.touch(0o755)
    assert find_envoy({"OVERHOP_ENVOY": str(program)}) == program


def test_find_envoy_named_program_that_is_none_is_an_error_with_its_name() -> None:
    with pytest.raises(EnvoyMissingError, match=r"^OVERHOP_ENVOY=/nonexistent/envoy: no such program"):
        find_envoy({"OVERHOP_ENVOY": "/nonexistent/envoy"})


@pytest.mark.parametrize("named", ["/etc/passwd", "/etc"])
def test_find_envoy_named_file_that_is_no_program_is_an_error_with_its_name(named: str) -> None:
    with pytest.raises(EnvoyMissingError, match=rf"^OVERHOP_ENVOY={named}: not a program: name an Envoy"):
        find_envoy({"OVERHOP_ENVOY": named})


def test_find_envoy_without_package_is_the_one_in_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    (tmp_path / "envoy").touch(0o755)
    assert find_envoy({"PATH": str(tmp_path)}) == tmp_path / "envoy"
    with pytest.raises(EnvoyMissingError, match=r"^envoy: not found: run \./dev setup"):
        find_envoy({"PATH": str(tmp_path / "empty")})
