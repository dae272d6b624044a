# SPDX-License-Identifier: Apache-2.0
"""The plan of one node: which interfaces are traced, whose they are, and with which program.

This is the message that an agent receives; standalone it is a YAML file, or is made from the interfaces.
"""

import glob
import os
import re
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
)

from agent.plan.names import Addresses, NamesPlan, PlanModel, listed, report_buckets
from agent.plan.yaml_document import Document, Plain, Problem, load, parse
from agent.plan.yaml_model import kind_of, validated
from bpf.spec import ProgramSpec

_IFNAME_BYTES = 15
_UNESCAPED = re.compile(r"\[([*?[])\]")
_DIRECTION_BITS = {"in": 1, "out": 2}


class PlanError(Exception):
    """A plan cannot be used; `problems` are all that is wrong with it, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def interface_name(name: str) -> str:
    """`name`, if an interface can have it. Raises ValueError."""
    if not name or len(name.encode()) > _IFNAME_BYTES or any(c == "/" or c.isspace() for c in name):
        raise ValueError(f"{name!r} is no interface name (1 to {_IFNAME_BYTES} bytes, no slash, no space)")
    return name


def _spec_field(value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401  any field's type, given back as it is
    """Ranges are ProgramSpec's own; its message loses its prefix, which the place says already."""
    if value is None:
        return value
    try:
        ProgramSpec(**{str(info.field_name): value})
    except ValueError as error:
        raise ValueError(str(error).replace(f"program spec: {info.field_name}: ", "")) from None
    return value


_Spec = AfterValidator(_spec_field)
_IN_ORDER = PlainSerializer(lambda names: None if names is None else sorted(names), when_used="json")
"""JSON of equal plans is equal: sets have no order of their own."""
_Names = Annotated[frozenset[str] | None, Field(strict=False), _Spec, _IN_ORDER]


class SearchPlan(PlanModel):
    """What the kernel program looks for, and where; what is not given keeps the default of ProgramSpec."""

    window: Annotated[int | None, _Spec] = None
    """Bytes of payload searched for the context, 64 to 8192."""
    vxlan_ports: Annotated[tuple[int, int] | None, Field(strict=False), _Spec] = None
    """Two UDP ports."""
    geneve_port: Annotated[int | None, _Spec] = None
    """UDP port."""
    encapsulations: _Names = None
    """Any of vxlan, ipip, geneve, gre."""
    contexts: _Names = None
    """Any of w3c, b3-single, b3-multi."""


class ProgramPlan(SearchPlan):
    """All parameters of the kernel program; what is not given keeps the default of bpf.spec.ProgramSpec."""

    sets: Annotated[int | None, _Spec] = None
    """Sets of two slots, a power of two."""
    ring_bytes: Annotated[int | None, _Spec] = None
    """Size of the ring buffer in bytes, a power of two."""
    filter: bool | None = None
    """Trace only vports that the plan matches; default: on if a vport has parameters of its own."""

    def spec(self) -> ProgramSpec:
        """The program spec of these parameters."""
        return replace(ProgramSpec(), **self.model_dump(exclude_none=True))


class VportParameters(PlanModel):
    """How the hops of a vport are traced."""

    traced: bool = True
    directions: Annotated[
        frozenset[Literal["in", "out"]],
        BeforeValidator(listed),
        Field(strict=False, min_length=1),
        _IN_ORDER,
    ] = frozenset({"in", "out"})
    """`in`: what the pod sends, `out`: what goes to the pod."""
    sample_shift: Annotated[int, Field(ge=0, le=15)] = 0
    """One in 2^n traces is kept."""
    require_sampled: bool = False
    """Keep only hops whose context is marked as sampled."""

    @property
    def needs_filter(self) -> bool:
        """Whether the filter map must be on for this vport's parameters to mean anything."""
        both = len(self.directions) == len(_DIRECTION_BITS)
        return not self.traced or not both or self.sample_shift > 0 or self.require_sampled

    def filter_value(self) -> bytes | None:
        """The value of `oh_filter` (docs/datapath.md §3), or None: no entry, not traced."""
        if not self.traced:
            return None
        bits = sum(_DIRECTION_BITS[direction] for direction in self.directions)
        return bytes((bits, self.sample_shift, self.require_sampled, 0))


class VportPlan(VportParameters):
    """One vport, or several by pattern: whose it is and how it is traced."""

    match: Annotated[str, Field(min_length=1)]
    """Name of the interface, or a pattern with * ? [..]."""
    namespace: str = ""
    pod: str = ""
    workload: str = ""
    addresses: Addresses = ()
    """Addresses of the pod; with them a flooding bridge does not mislead (owner check)."""


class Plan(PlanModel):
    """What one node shall do. Where `nic` or `vports` is not given it is looked for (agent.network)."""

    nic: Annotated[
        tuple[Annotated[str, AfterValidator(interface_name)], ...],
        BeforeValidator(listed),
        Field(strict=False, min_length=1),
    ] = ()
    vports: Annotated[tuple[VportPlan, ...], Field(strict=False)] = ()
    program: ProgramPlan = ProgramPlan()
    names: NamesPlan = NamesPlan()

    def vport_for(self, ifname: str) -> VportPlan | None:
        """The first entry whose pattern fits; None: this interface is no vport of ours."""
        exact, patterns = self._entries
        at = exact.get(ifname, len(self.vports))
        at = next(
            (each for each in patterns if each < at and fnmatchcase(ifname, self.vports[each].match)), at
        )
        return self.vports[at] if at < len(self.vports) else None

    @cached_property
    def _entries(self) -> tuple[dict[str, int], tuple[int, ...]]:
        """Places of entries that fit one name only, by that name, and of all others: hundreds are usual."""
        exact: dict[str, int] = {}
        patterns = []
        for at, vport in enumerate(self.vports):
            name = _UNESCAPED.sub(r"\1", vport.match)
            if glob.escape(name) == vport.match:
                exact.setdefault(name, at)
            else:
                patterns.append(at)
        return exact, tuple(patterns)

    def spec(self) -> ProgramSpec:
        """The program spec, with the filter on if a vport needs it."""
        needed = any(vport.needs_filter for vport in self.vports)
        return replace(self.program.spec(), filter=bool(self.program.filter) or needed)


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """The plan in a YAML file. Raises PlanError with everything that is wrong, never anything else."""
    return _plan_of(load(path))


def parse_plan(text: str, file: str = "plan") -> Plan:
    """As load_plan, from text; `file` names it in problems."""
    return _plan_of(parse(text, file))


def _plan_of(document: Document) -> Plan:
    plan = None
    if document.data is None and not document.problems:
        document.report((), "is empty: give at least `nic` or `vports`")
    elif not isinstance(document.data, dict) and not document.problems:
        document.report((), f"must be a mapping with `nic` and `vports`, not {kind_of(document.data)}")
    elif isinstance(document.data, dict):
        plan = validated(document, document.data, Plan)
        _report_conflicts(document, document.data)
        report_buckets(document, document.data)
    if document.problems or plan is None:
        raise PlanError(document.problems)
    return plan


_FILTERED = {"traced": False, "require_sampled": True}
"""Values that mean something only with the filter on; besides directions and sample_shift."""


def _report_conflicts(document: Document, data: dict[str, Plain]) -> None:
    """What spans entries: patterns that never get their turn, parameters for which the filter is denied."""
    program = data.get("program")
    no_filter = isinstance(program, dict) and program.get("filter") is False
    seen: dict[str, int] = {}
    vports = data.get("vports")
    for at, entry in enumerate(vports if isinstance(vports, list) else []):
        if not isinstance(entry, dict):
            continue
        match = entry.get("match")
        if isinstance(match, str) and seen.setdefault(match, at) != at:
            document.report(("vports", at, "match"), f"{match!r} is already vports[{seen[match]}].match")
        for key in _keys_for_filter(entry) if no_filter else ():
            document.report(("vports", at, key), "needs the filter, which program.filter turns off")


def _keys_for_filter(entry: dict[str, Plain]) -> list[str]:
    keys = [key for key, value in _FILTERED.items() if entry.get(key) is value]
    return keys + [key for key in ("directions", "sample_shift") if key in entry]
