# SPDX-License-Identifier: Apache-2.0
"""A pod's traffic through its sidecar: the nat table for ip(6)tables-restore. Pure.

The rules, their names and their order are those of Istio (tools/istio-iptables/pkg/capture, REDIRECT mode).
"""

from dataclasses import dataclass

OUTBOUND_PORT = 15001
INBOUND_PORT = 15006
TUNNEL_PORT = 15008
SIDECAR_PORTS = (15090, 15021, 15020)
"""What the sidecar itself answers: statistics, health, both merged."""
PROXY_ID = 1337
"""User and group of the sidecar; what it sends is not sent to it again."""


@dataclass(frozen=True, slots=True)
class Loopback:
    """Addresses inside a pod, of one family."""

    address: str
    source_of_inbound: str
    """From where the sidecar calls its own pod's application, so that the rules can tell this traffic."""
    length_bits: int


LOOPBACK = {4: Loopback("127.0.0.1", "127.0.0.6", 32), 6: Loopback("::1", "::6", 128)}
"""By IP version."""


def render(version: int) -> str:
    """The nat table of a pod for IP version 4 or 6."""
    chains = ("ISTIO_INBOUND", "ISTIO_REDIRECT", "ISTIO_IN_REDIRECT", "ISTIO_OUTPUT")
    builtin = ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")
    head = [*(f":{name} ACCEPT [0:0]" for name in builtin), *(f":{name} - [0:0]" for name in chains)]
    return "\n".join(["*nat", *head, *_redirects(), *_inbound(), *_outbound(version), "COMMIT", ""])


def _redirects() -> list[str]:
    return [
        f"-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports {OUTBOUND_PORT}",
        f"-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports {INBOUND_PORT}",
    ]


def _inbound() -> list[str]:
    own = (TUNNEL_PORT, *SIDECAR_PORTS)
    return [
        "-A PREROUTING -p tcp -j ISTIO_INBOUND",
        *(f"-A ISTIO_INBOUND -p tcp -m tcp --dport {port} -j RETURN" for port in own),
        "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT",
    ]


def _outbound(version: int) -> list[str]:
    """First what the sidecar sends, told by user and by group; what is left is the application's."""
    loopback = LOOPBACK[version]
    itself = f"{loopback.address}/{loopback.length_bits}"
    rules = [
        "-A OUTPUT -j ISTIO_OUTPUT",
        f"-A ISTIO_OUTPUT -s {loopback.source_of_inbound}/{loopback.length_bits} -o lo -j RETURN",
    ]
    for owner in ("uid", "gid"):
        sent_by = f"-m owner --{owner}-owner {PROXY_ID}"
        not_sent_by = f"-m owner ! --{owner}-owner {PROXY_ID}"
        rules += [
            f"-A ISTIO_OUTPUT ! -d {itself} -o lo -p tcp -m tcp ! --dport {TUNNEL_PORT} {sent_by}"
            " -j ISTIO_IN_REDIRECT",
            f"-A ISTIO_OUTPUT -o lo {not_sent_by} -j RETURN",
            f"-A ISTIO_OUTPUT {sent_by} -j RETURN",
        ]
    return [*rules, f"-A ISTIO_OUTPUT -d {itself} -j RETURN", "-A ISTIO_OUTPUT -j ISTIO_REDIRECT"]
