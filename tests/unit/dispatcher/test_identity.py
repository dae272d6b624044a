# SPDX-License-Identifier: Apache-2.0
"""The rules by which a token is an agent's; tests/cluster has reviews of a real API server."""

import copy
from typing import Any

import pytest

from collector.snapshot import Pod
from dispatcher.identity import Refused, TokenFile, TokenReviews

REVIEW: dict[str, Any] = {
    "status": {
        "authenticated": True,
        "audiences": ["overhop-controller"],
        "user": {
            "username": "system:serviceaccount:overhop:overhop-agent",
            "extra": {
                "authentication.kubernetes.io/pod-uid": ["u1"],
                "authentication.kubernetes.io/node-name": ["n1"],
            },
        },
    }
}
AGENT = Pod("u1", "overhop", "overhop-agent-x", "n1", service_account="overhop-agent", phase="Running")


class Reviewer:
    """An API server that answers so."""

    def __init__(self, answer: Any) -> None:  # noqa: ANN401  anything
        self.answer = answer
        self.sent: list[Any] = []

    def send(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        self.sent.append((method, path, body))
        if isinstance(self.answer, Exception):
            raise self.answer
        found: dict[str, Any] = self.answer
        return found


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


def reviews(answer: Any, pods: dict[str, Pod] | None = None) -> tuple[TokenReviews, Reviewer, Clock]:  # noqa: ANN401
    reviewer, clock = Reviewer(answer), Clock()
    live = {"u1": AGENT} if pods is None else pods
    return TokenReviews(reviewer, "overhop", live.get, now_s=clock), reviewer, clock


def changed(path: str, value: Any) -> Any:  # noqa: ANN401  the review with another value at a place
    found = copy.deepcopy(REVIEW)
    *inner, last = path.split("/")
    place = found["status"]
    for key in inner:
        place = place[key]
    place[last] = value
    return found


def test_token_of_an_agent_is_its_pods_node() -> None:
    found, reviewer, _ = reviews(REVIEW)
    assert found.node_of("token") == "n1"
    [(method, path, body)] = reviewer.sent
    assert (method, path) == ("POST", "/apis/authentication.k8s.io/v1/tokenreviews")
    assert body["spec"] == {"token": "token", "audiences": ["overhop-controller"]}


EXTRA = "user/extra"
UID = {"authentication.kubernetes.io/pod-uid": ["u1"]}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (changed("authenticated", False), 401),
        (changed("authenticated", "true"), 401),
        (changed("audiences", ["https://kubernetes.default.svc"]), 401),
        (changed("audiences", None), 401),
        (changed("user/username", "system:serviceaccount:overhop:overhop-agent2"), 403),
        (changed("user/username", "system:serviceaccount:default:overhop-agent"), 403),
        (changed(EXTRA, {}), 403),
        (changed(EXTRA, None), 403),
        (changed(EXTRA, {"authentication.kubernetes.io/pod-uid": []}), 403),
        (changed(EXTRA, {"authentication.kubernetes.io/pod-uid": ["u1", "u2"]}), 403),
        (changed(EXTRA, {"authentication.kubernetes.io/pod-uid": "u1"}), 403),
        (changed(EXTRA, {"authentication.kubernetes.io/pod-uid": [""]}), 403),
        (changed(EXTRA, {"authentication.kubernetes.io/pod-uid": ["gone"]}), 403),
        (changed(EXTRA, UID | {"authentication.kubernetes.io/node-name": ["n2"]}), 403),
        ({}, 401),
        ({"status": []}, 401),
        (RuntimeError("the token is x"), 503),
    ],
)
def test_what_does_not_fit_every_rule_is_refused(answer: Any, status: int) -> None:  # noqa: ANN401
    found, _, _ = reviews(answer)
    with pytest.raises(Refused) as caught:
        found.node_of("token")
    assert caught.value.status == status
    assert "the token is x" not in str(caught.value)


def test_token_without_a_node_claim_counts_older_kubernetes_has_none() -> None:
    found, _, _ = reviews(changed(EXTRA, UID))
    assert found.node_of("token") == "n1"


@pytest.mark.parametrize(
    "pod",
    [
        Pod("u1", "overhop", "x", "n1", service_account="default", phase="Running"),
        Pod("u1", "other", "x", "n1", service_account="overhop-agent", phase="Running"),
        Pod("u1", "overhop", "x", "n1", service_account="overhop-agent", phase="Failed"),
    ],
)
def test_pod_that_is_no_live_agent_is_refused(pod: Pod) -> None:
    found, _, _ = reviews(REVIEW, {"u1": pod})
    with pytest.raises(Refused) as caught:
        found.node_of("token")
    assert caught.value.status == 403


@pytest.mark.parametrize("token", ["", "x" * 20_000])
def test_what_cannot_be_a_token_is_not_even_asked_about(token: str) -> None:
    found, reviewer, _ = reviews(REVIEW)
    with pytest.raises(Refused):
        found.node_of(token)
    assert reviewer.sent == []


def test_review_is_kept_a_minute_and_a_refusal_five_seconds() -> None:
    found, reviewer, clock = reviews(REVIEW)
    found.node_of("token")
    clock.s += 59
    assert found.node_if_known("token") == "n1"
    clock.s += 2
    assert found.node_if_known("token") is None
    reviewer.answer = changed("authenticated", False)
    with pytest.raises(Refused):
        found.node_of("token")
    clock.s += 4
    with pytest.raises(Refused):
        found.node_of("token")
    assert len(reviewer.sent) == 2
    clock.s += 2
    reviewer.answer = REVIEW
    assert found.node_of("token") == "n1"


def test_known_token_is_refused_as_soon_as_its_pod_is_gone() -> None:
    pods = {"u1": AGENT}
    found, _, _ = reviews(REVIEW, pods)
    found.node_of("token")
    del pods["u1"]
    with pytest.raises(Refused):
        found.node_of("token")


def test_tokens_are_not_kept_as_they_are() -> None:
    found, _, _ = reviews(REVIEW)
    found.node_of("very-secret")
    assert "very-secret" not in repr(vars(found))


def test_token_file_knows_each_nodes_own() -> None:
    found = TokenFile("# of the lab\nn1 aaaaaaaaaaaaaaaa\n\nn2 bbbbbbbbbbbbbbbb\n")
    assert [found.node_of("a" * 16), found.node_of("b" * 16)] == ["n1", "n2"]
    with pytest.raises(Refused):
        found.node_of("c" * 16)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no token in it"),
        ("n1", "line 1: must be NODE TOKEN"),
        ("n1 short", "line 1: must be NODE TOKEN"),
        ("n1 aaaaaaaaaaaaaaaa\nn2 aaaaaaaaaaaaaaaa", "line 2: this token is another node's already"),
    ],
)
def test_token_file_that_is_wrong_says_where(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TokenFile(text)
