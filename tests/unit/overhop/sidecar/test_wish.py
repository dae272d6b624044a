# SPDX-License-Identifier: Apache-2.0
import pytest

from overhop.sidecar.contexts import DEFAULT_HEADERS
from overhop.sidecar.wish import Given, OfCluster, WishError, parse_wish

REVIEWS = "reviews.shop.svc.cluster.local"


def problems(given: Given) -> tuple[str, ...]:
    with pytest.raises(WishError) as caught:
        parse_wish(given)
    return caught.value.problems


def test_wish_by_default_is_the_whole_mesh_and_the_router() -> None:
    wish = parse_wish(Given("istio"))
    assert (wish.variant, wish.namespace, wish.selector, wish.protocols) == ("lua", "istio-system", {}, ())
    assert wish.relocation.headers == DEFAULT_HEADERS


def test_wish_of_clusters_has_class_service_and_port() -> None:
    wish = parse_wish(Given("istio", protocols=(f"h2={REVIEWS}:9080", f"auto={REVIEWS}:80", "h1=*.org")))
    assert wish.protocols == (
        OfCluster("h2", REVIEWS, 9080),
        OfCluster("auto", REVIEWS, 80),
        OfCluster("h1", "*.org", None),
    )


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (Given("nginx"), "--target nginx: known are envoy, istio"),
        (Given("envoy", variant="wasm"), "--variant wasm: known are lua, native"),
        (Given("envoy", headers="host"), "--headers: host: comes first anyway"),
        (
            Given("envoy", selector=("a=b",)),
            "--selector: an Envoy is not selected by labels: that is for --target istio",
        ),
        (Given("istio", selector=("a",)), "--selector a: write LABEL=VALUE, as pods have it"),
        (Given("istio", selector=("-=b",)), "--selector -=b: write LABEL=VALUE, as pods have it"),
        (Given("istio", namespace="A"), "--namespace A: is no name of a namespace"),
        (
            Given("istio", protocols=("h3=x",)),
            "--protocol h3=x: h3 is unknown, and its options would be lost: known are h1, h2, auto,"
            " preserve-case, auto-preserve-case",
        ),
        (Given("istio", protocols=("h2",)), "--protocol h2: say whose clusters: h2=SERVICE[:PORT]"),
        (
            Given("envoy", protocols=("h2=x",)),
            "--protocol h2=x: give the protocol alone: which clusters speak it, you know",
        ),
        (Given("istio", protocols=("h2=a b",)), "--protocol h2=a b: a b is no name of a host"),
        (Given("istio", protocols=("h2=a:0",)), "--protocol h2=a:0: 0 is no port"),
        (Given("istio", protocols=("h2=a:x",)), "--protocol h2=a:x: x is no port"),
        (Given("istio", protocols=("h2=a:80", "h1=a")), "--protocol: a is given twice for the same port"),
        (
            Given("istio", variant="native"),
            "--variant native: Istio's proxies do not have librelocate.so, and would refuse all of their"
            " configuration: use lua",
        ),
    ],
)
def test_wish_that_cannot_be_rendered_says_why(given: Given, problem: str) -> None:
    assert problems(given) == (problem,)


def test_wish_names_all_problems_at_once() -> None:
    given = Given("istio", headers="TE", protocols=("h9=x",), namespace="!", selector=("x",))
    assert [each.partition(" ")[0] for each in problems(given)] == [
        "--headers:",
        "--protocol",
        "--selector",
        "--namespace",
    ]
