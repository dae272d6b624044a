# SPDX-License-Identifier: Apache-2.0
"""The inventory of a node for people. Pure; fits 60 columns and a pipe."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from collector.node.abilities import Abilities
from collector.node.nat import NatRules, Service
from overhop.hops_view import plain
from overhop.inventory import Inventory
from overhop.text import counted, listed, printable

WIDE_COLUMNS = 80
"""From this width on, services show whose source is translated."""
_FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}
_NOWHERE = {"reject": "no endpoints", "drop": "none on this node", "": "none on this node"}
"""Where services without back ends go, by whether they are refused."""
_MASQUERADES = {"always": "always", "outside": "if not from a pod", "": ""}


def render(inventory: Inventory, width: int) -> RenderableType:
    """The inventory in at most `width` columns."""
    return Group(
        plain(f"node {inventory.node}", width, "bold"),
        *(Text(printable(line)) for line in facts(inventory)),
        *_section("interfaces", ("name", "kind", "role", "mtu", "addresses"), _interfaces(inventory)),
        *_section("vports", ("interface", "pod", "workload", "addresses"), _vports(inventory)),
        *_section("overlay", ("device", "kind", "vni", "port", "mtu", "over"), _overlays(inventory)),
        *(line for family, rules in inventory.nat.items() for line in _nat(_FAMILIES[family], rules, width)),
    )


def facts(inventory: Inventory) -> list[str]:
    """Agent, NIC, kernel and who told the pods, a line each."""
    nic = ", ".join(inventory.nic) or "not known"
    problem = f": {inventory.nic_problem}" if inventory.nic_problem else ""
    about = [inventory.nic_reason] if inventory.nic_reason else []
    about += [f"{name} {'on' if on else 'off'}" for name, on in inventory.offloads.items()]
    return [
        agent_line(inventory),
        f"nic    {nic}{f' ({listed(about)})' if about and inventory.nic else ''}{problem}",
        f"kernel {kernel_line(inventory.abilities)}",
        *pods_line(inventory),
    ]


def pods_line(inventory: Inventory) -> list[str]:
    """Who told whose the vports are; none where nobody was asked."""
    if not inventory.pods_source:
        return []
    return [f"pods   {inventory.pods_problem or f'told by {inventory.pods_source}'}"]


def agent_line(inventory: Inventory) -> str:
    """Whether an agent runs here."""
    agent = inventory.agent
    if agent is None:
        return "agent  none runs in this network namespace"
    if not agent.answers:
        return f"agent  {agent.pid} runs here, and does not answer"
    return f"agent  {agent.pid} traces {', '.join(agent.nic)} and {counted(agent.vports, 'vport')}"


def kernel_line(abilities: Abilities) -> str:
    """Release and what the agent needs of it."""
    known = {"BTF": abilities.btf, "TCX": abilities.tcx, "clsact": abilities.clsact, "JIT": abilities.jit}
    said = [f"{name} {'unknown' if has is None else 'yes' if has else 'no'}" for name, has in known.items()]
    capabilities = ", ".join(sorted(abilities.capabilities)) or "no capabilities"
    return f"{abilities.kernel_release} {abilities.machine} · {' · '.join(said)} · {capabilities}"


Cells = tuple[str | tuple[str, ...], ...]
"""What is in each column; several texts are lines of one cell."""


def _section(title: str, heads: Sequence[str], rows: Sequence[Cells]) -> Iterator[RenderableType]:
    yield Text(f"\n{title}", style="bold")
    if not rows:
        yield Text("  none")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*map(_cell, row))
    yield table


def _cell(content: str | tuple[str, ...]) -> Text:
    lines = (content,) if isinstance(content, str) else content
    return Text("\n".join(map(printable, lines)), overflow="fold")


def _interfaces(inventory: Inventory) -> list[Cells]:
    return [
        (
            each.name,
            each.kind or "-",
            each.role + ("" if each.up else " (down)" if each.role else "down"),
            str(each.mtu_bytes),
            ", ".join(each.addresses),
        )
        for each in inventory.interfaces
    ]


def _vports(inventory: Inventory) -> list[Cells]:
    return [
        (
            each.name + ("" if each.traced else " (not traced)"),
            f"{each.namespace}/{each.pod}" if each.namespace else each.pod,
            each.workload,
            ", ".join(each.addresses),
        )
        for each in inventory.vports
    ]


def _overlays(inventory: Inventory) -> list[Cells]:
    return [
        (
            each.name,
            each.kind,
            str(each.number or "-"),
            str(each.port or "-"),
            str(each.mtu_bytes),
            each.over or "-",
        )
        for each in inventory.overlays
    ]


def _nat(family: str, rules: NatRules, width: int) -> Iterator[RenderableType]:
    if not rules.read:
        yield Text(f"\n{family} NAT", style="bold")
        yield Text(f"  not read: {printable(rules.reason)}", style="yellow")
        return
    heads = ("service", "kind", "called", "goes to", "masquerade")[: 5 if width >= WIDE_COLUMNS else 4]
    services = [_service(service)[: len(heads)] for service in rules.services]
    yield from _section(f"{family} services", heads, services)
    masquerades = [(each.chain, each.when or "everything", each.to or "-") for each in rules.masquerades]
    if masquerades:
        yield from _section(f"{family} sources translated", ("chain", "when", "to"), masquerades)
    if rules.reason:
        yield Text(f"partly read: {printable(rules.reason)}", style="yellow")
    if rules.not_understood:
        yield Text(f"{counted(rules.not_understood, 'rule')} not understood:", style="yellow")
        yield from (Text(f"  {printable(example)}", overflow="fold") for example in rules.examples)


def _service(service: Service) -> Cells:
    called = f"[{service.address}]" if ":" in service.address else service.address
    shares: Mapping[float, int] = {round(each.share, 3): 1 for each in service.backends}
    backends = [
        f"{_endpoint(each.address, each.port)}" + ("" if len(shares) == 1 else f" {each.share:.0%}")
        for each in service.backends
    ] or [_NOWHERE[service.refused]]
    return (
        service.name or "-",
        service.kind,
        f"{called or 'any node'}:{service.port or 'any'}",
        tuple(backends),
        _MASQUERADES[service.masquerade],
    )


def _endpoint(address: str, port: int) -> str:
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
