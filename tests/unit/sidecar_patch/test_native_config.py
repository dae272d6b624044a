# SPDX-License-Identifier: Apache-2.0
"""Which configurations the native module takes: those that overhop sidecar render writes, and no other."""

import pytest

from overhop.sidecar.contexts import DEFAULT_HEADERS, RelocationError, parse_relocation
from tests.unit.sidecar_patch.fake_envoy import FakeEnvoy


def test_config_of_the_default_headers_is_taken(fake: FakeEnvoy) -> None:
    assert fake.configure(",".join(DEFAULT_HEADERS).encode()) is None


def test_config_with_spaces_around_names_is_taken(fake: FakeEnvoy) -> None:
    assert fake.configure(b" b3 , traceparent ") is None
    assert fake.serve([(b"a", b"1"), (b"traceparent", b"t"), (b"b3", b"b")]).headers == [
        (b"b3", b"b"),
        (b"traceparent", b"t"),
        (b"a", b"1"),
    ]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (b"", 'header "": is empty'),
        (b"b3,,x", 'header "": is empty'),
        (b"b3,", 'header "": is empty'),
        (b":path", 'header ":path": is a pseudo header, which comes first anyway'),
        (b"host", 'header "host": comes first anyway'),
        (b"content-length", 'header "content-length": belongs to the connection, not to the request'),
        (b"http2-settings", 'header "http2-settings": belongs to the connection, not to the request'),
        (b"TE", 'header "TE": is no name of a header in lower case (RFC 9110 section 5.1)'),
        (b"b3 x", 'header "b3 x": is no name of a header in lower case (RFC 9110 section 5.1)'),
        (b"b3,b3", 'header "b3": is named twice'),
        (b"x" * 129, 'header "' + "x" * 128 + '": is longer than 128 bytes'),
    ],
)
def test_config_that_is_wrong_is_refused_with_the_reason(
    fake: FakeEnvoy, names: bytes, complaint: str
) -> None:
    assert fake.configure(names) == [f"relocate: {complaint}"]
    with pytest.raises(RelocationError):
        parse_relocation(names.decode())


def test_config_of_33_names_is_refused(fake: FakeEnvoy) -> None:
    names = [f"x-{at}" for at in range(33)]
    assert fake.configure(",".join(names[:32]).encode()) is None
    why = 'relocate: header "x-32": is one more than the 32 that there may be'
    assert fake.configure(",".join(names).encode()) == [why]


def test_config_with_several_faults_names_all(fake: FakeEnvoy) -> None:
    assert fake.configure(b"host,b3,te") == [
        'relocate: header "host": comes first anyway',
        'relocate: header "te": belongs to the connection, not to the request',
    ]


def test_config_without_counters_still_relocates(fake: FakeEnvoy) -> None:
    assert fake.configure(b"b3", has_counters=False) is None
    served = fake.serve([(b"a", b"1"), (b"b3", b"b")])
    assert (served.headers, served.counted) == ([(b"b3", b"b"), (b"a", b"1")], {})
