# SPDX-License-Identifier: Apache-2.0
import pytest

from overhop.sidecar.contexts import DEFAULT_HEADERS, Relocation, RelocationError, parse_relocation


def test_relocation_by_default_is_w3c_and_b3() -> None:
    assert Relocation().headers == DEFAULT_HEADERS
    assert DEFAULT_HEADERS == (
        "traceparent",
        "tracestate",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-parentspanid",
        "x-b3-sampled",
        "x-b3-flags",
    )


def test_relocation_from_text_keeps_its_order() -> None:
    assert parse_relocation("x-b3-traceid, traceparent").headers == ("x-b3-traceid", "traceparent")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a name: is empty"),
        (":path", ":path: is a pseudo header, which comes first anyway"),
        ("host", "host: comes first anyway"),
        ("content-length", "content-length: belongs to the connection, not to the request"),
        ("Transfer-Encoding", "Transfer-Encoding: belongs to the connection, not to the request"),
        ("TraceParent", "TraceParent: write it in lower case: traceparent"),
        ("b3 b4", "b3 b4: is no name of a header (RFC 9110 section 5.1)"),
        ('b3"]=1', 'b3"]=1: is no name of a header (RFC 9110 section 5.1)'),
        ("x" * 129, "x" * 129 + ": is longer than 128 bytes"),
        ("b3,b3", "b3: named twice"),
        (",".join(f"x-{n}" for n in range(33)), "33 headers: at most 32"),
    ],
)
def test_relocation_of_what_cannot_be_moved_says_why(text: str, problem: str) -> None:
    with pytest.raises(RelocationError) as caught:
        parse_relocation(text)
    assert caught.value.problems == (problem,)


def test_relocation_without_headers_is_refused() -> None:
    with pytest.raises(RelocationError, match="no header: name at least one"):
        Relocation(())


def test_relocation_names_all_problems_at_once() -> None:
    with pytest.raises(RelocationError) as caught:
        parse_relocation("host,traceparent,TE,traceparent")
    assert caught.value.problems == (
        "host: comes first anyway",
        "TE: belongs to the connection, not to the request",
        "traceparent: named twice",
    )
