# SPDX-License-Identifier: Apache-2.0
"""The builds that are fuzzed: program spec, compiler options, and what is in the maps."""

from dataclasses import dataclass, field

from bpf.spec import ProgramSpec
from tests.oracle.expect import VportFilter, Vports
from tests.oracle.generate import ADDRESSES
from tests.oracle.packet import MAPPED


@dataclass(frozen=True, slots=True)
class Case:
    """One build of the programs and what is in its maps."""

    name: str
    spec: ProgramSpec
    vports: Vports = field(default_factory=Vports)
    extra_defines: tuple[str, ...] = ()


def _owners() -> frozenset[tuple[int, bytes]]:
    """Interface 101 has two pods of both families, 102 one; interface 1 is not known."""
    known = {(101, bytes(16)), (102, bytes(16))}
    for ifindex, number in ((101, 0), (101, 1), (102, 2), (102, 3), (1, 4)):
        known |= {(ifindex, ADDRESSES[number]), (ifindex, MAPPED + ADDRESSES[number][-4:])}
    return frozenset(known)


def cases() -> tuple[Case, ...]:
    """The builds that are fuzzed: windows, masks, maps, FILTER, FORCE_LOAD_BYTES."""
    everywhere = Vports(seen=frozenset({1, 101}))
    owned = Vports(owners=_owners(), seen=frozenset({102}))
    filtered = {1: VportFilter(3, 0, 0), 101: VportFilter(1, 1, 1), 102: VportFilter(2, 2, 0)}
    sampled = {1: VportFilter(3, 15, 0), 101: VportFilter(3, 1, 0), 102: VportFilter(3, 0, 1)}
    some = frozenset
    forced = ("-DFORCE_LOAD_BYTES",)
    return (
        *(
            Case(f"window {size}", ProgramSpec(window=size), everywhere)
            for size in (64, 200, 1500, 4096, 8192)
        ),
        Case("two sets", ProgramSpec(window=512, sets=2)),
        Case("small ring", ProgramSpec(window=600, ring_bytes=4096)),
        Case("owners", ProgramSpec(window=1500), owned),
        Case(
            "w3c over vxlan",
            ProgramSpec(
                window=1500,
                contexts=some({"w3c"}),
                encapsulations=some({"vxlan"}),
                vxlan_ports=(4790, 8472),
            ),
        ),
        Case(
            "b3 single over gre",
            ProgramSpec(window=1500, contexts=some({"b3-single"}), encapsulations=some({"gre"})),
        ),
        Case(
            "b3 multi over ipip and geneve",
            ProgramSpec(contexts=some({"b3-multi"}), encapsulations=some({"ipip", "geneve"})),
        ),
        Case("both b3", ProgramSpec(window=333, contexts=some({"b3-multi", "b3-single"}))),
        Case("no tunnels, no contexts", ProgramSpec(window=700, contexts=some(), encapsulations=some())),
        Case("filter", ProgramSpec(window=1000, sets=64, filter=True), Vports(filters=filtered)),
        Case("sampling", ProgramSpec(filter=True), Vports(filters=sampled, owners=_owners())),
        Case("loads", ProgramSpec(window=1500), everywhere, forced),
        Case("loads, window 8192", ProgramSpec(window=8192, sets=16), owned, forced),
    )
