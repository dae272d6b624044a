# SPDX-License-Identifier: Apache-2.0
"""Whether the context of a request was moved to the front: nothing but the host stands before it."""

import re

_FAMILY = frozenset({b"traceparent", b"tracestate", b"b3"})
_FAMILY_START = b"x-b3-"
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}")
NO_NAME = "(no name)"
"""For what is no field name (RFC 9110 §5.1): it could be anything, so it is not shown."""


def first_before(head: bytes, offset: int) -> str:
    """Name of the first header before `offset` that a relocation would have moved back, in lower case.

    Empty if there is none: only `host` and fields of contexts stand there. Values are not looked at.
    """
    for line in head[:offset].split(b"\r\n")[1:-1]:
        name, colon, _ = line.partition(b":")
        name = name.lower()
        if name != b"host" and name not in _FAMILY and not name.startswith(_FAMILY_START):
            return name.decode() if colon and _TOKEN.fullmatch(name) else NO_NAME
    return ""
