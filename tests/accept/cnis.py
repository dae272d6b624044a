# SPDX-License-Identifier: Apache-2.0
"""Pairing over the other CNIs: every route, with offloads on and off, packets encapsulated at both NICs."""

from collections.abc import Iterator

from overhop.lab import Cni
from tests.accept import overlay, routes
from tests.accept.scenario import Scenario
from tests.accept.town import TownOptions

CNIS: tuple[Cni, ...] = ("vxlan6", "ipip")
POD_TO_POD = (("pod_to_pod", overlay.vxlan.body), ("post_30k", overlay.post_30k.body))
"""Both check the encapsulation of tx at the sender and of rx at the receiver."""


def _of(cni: Cni, *, offloads: bool) -> Iterator[Scenario]:
    bodies = (*POD_TO_POD, *((entry.name, entry.body) for entry in routes.SCENARIOS))
    suffix = "" if offloads else "_offloads_off"
    for name, body in bodies:
        yield Scenario(f"{cni}_{name}{suffix}", TownOptions(cni=cni, offloads=offloads), body)


CLSACT = Scenario("ipip_clsact", TownOptions(cni="ipip", attach="clsact"), overlay.vxlan.body)
"""The lab's own filters decapsulate at the same hook, behind the agent's."""
SCENARIOS = (
    *(entry for cni in CNIS for offloads in (True, False) for entry in _of(cni, offloads=offloads)),
    CLSACT,
)
