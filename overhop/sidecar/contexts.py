# SPDX-License-Identifier: Apache-2.0
"""Which headers are context, in the order in which they are put at the head of a request (pure)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

DEFAULT_HEADERS: Final = (
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
)
"""W3C Trace Context and B3, single and multiple headers."""
MAX_HEADERS: Final = 32
_MAX_NAME_BYTES: Final = 128
_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
"""RFC 9110 section 5.1: a token; in lower case, as Envoy has it."""
_FRAMING: Final = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""They say where a message ends and what becomes of its connection: RFC 9110 section 7.6.1, RFC 9112."""


class RelocationError(ValueError):
    """These headers cannot be moved; `problems` has one line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Relocation:
    """What is moved. Raises RelocationError, with all that is wrong."""

    headers: tuple[str, ...] = DEFAULT_HEADERS

    def __post_init__(self) -> None:
        if found := problems(self.headers):
            raise RelocationError(found)


def problems(headers: Sequence[str]) -> list[str]:
    """All that is wrong with the names, in their order."""
    if not headers:
        return ["no header: name at least one"]
    found = [f"{name or 'a name'}: {why}" for name in headers if (why := _fault(name))]
    found += [f"{name}: named twice" for name in dict.fromkeys(headers) if headers.count(name) > 1]
    if len(headers) > MAX_HEADERS:
        found.append(f"{len(headers)} headers: at most {MAX_HEADERS}")
    return found


def parse_relocation(text: str) -> Relocation:
    """From names joined by commas. Raises RelocationError."""
    return Relocation(tuple(name.strip() for name in text.split(",")))


def _fault(name: str) -> str:
    if not name:
        return "is empty"
    if name.startswith(":"):
        return "is a pseudo header, which comes first anyway"
    if name == "host":
        return "comes first anyway"
    if name.lower() in _FRAMING:
        return "belongs to the connection, not to the request"
    if name != name.lower():
        return f"write it in lower case: {name.lower()}"
    if len(name) > _MAX_NAME_BYTES:
        return f"is longer than {_MAX_NAME_BYTES} bytes"
    if not _NAME.fullmatch(name):
        return "is no name of a header (RFC 9110 section 5.1)"
    return ""
