# SPDX-License-Identifier: Apache-2.0
"""`overhop inventory`: what this node knows of itself."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from overhop import errors, output
from overhop.errors import CommandError

if TYPE_CHECKING:
    from agent.plan.model import Plan
    from overhop.config import Config
    from overhop.inventory import Inventory, RunningAgent


@dataclass(frozen=True, slots=True)
class InventoryOptions:
    """Options of the command."""

    config: "Callable[[], Config]"
    as_json: bool


def do_inventory(options: InventoryOptions) -> int:
    """Read it and show it. Raises ConfigError, PlanError, OSError."""
    from overhop.inventory_view import render

    with output.patience("reading interfaces, NAT rules and what the kernel can"):
        inventory = read_inventory(options.config())
    if options.as_json:
        output.show_json(as_json(inventory))
    else:
        output.show(render(inventory, output.console().width))
    return errors.DONE


def read_inventory(config: "Config") -> "Inventory":
    """Of this network namespace; takes about a second."""
    from agent.loading.loader import bcc_pythons
    from collector.node.abilities import read_abilities
    from collector.node.links import read_addresses, read_network
    from collector.node.nat_reading import read_nat
    from overhop.inventory import Readings, inventory_of
    from overhop.own_pods import read_own

    plan, reason, problem = _plan(config)
    abilities = read_abilities(bcc_pythons())
    network, pods = read_network(plan.nic, reason), read_own(config.agent.cri)
    found = Readings(network, read_addresses(), read_nat(), abilities, _agent(), pods)
    return inventory_of(config.node, plan, problem, found)


def as_json(inventory: "Inventory") -> dict[str, object]:
    """Everything as plain data (docs/cli.md)."""
    abilities = asdict(inventory.abilities) | {"capabilities": sorted(inventory.abilities.capabilities)}
    return asdict(inventory) | {"abilities": abilities}


def _plan(config: "Config") -> "tuple[Plan, str, str]":
    """The plan as an agent would follow it, why its NIC is it, and why it has none if it has none."""
    from agent.network.discover import completed, find_vports
    from agent.network.links import links
    from agent.plan.model import Plan, load_plan
    from overhop.nics import read_nics

    base = load_plan(config.agent.plan) if config.agent.plan is not None else Plan()
    reason, problem = "named", ""
    if config.agent.nic:
        base = base.model_copy(update={"nic": (config.agent.nic,)})
    elif not base.nic:
        nics, problem = read_nics()
        base, reason = base.model_copy(update={"nic": nics.names}), nics.reason
    present = links()
    if base.nic:
        return completed(base, present), reason, problem
    vports = base.vports if "vports" in base.model_fields_set else find_vports(present, ())
    return base.model_copy(update={"vports": vports}), reason, problem


def _agent() -> "RunningAgent | None":
    from agent.lock import holder_pid
    from overhop.inventory import RunningAgent
    from overhop.running import read_facts, watch_path

    pid = holder_pid()
    if not pid:
        return None
    try:
        facts = read_facts(watch_path())
    except CommandError:
        return RunningAgent(pid, answers=False)
    return RunningAgent(facts.pid, answers=True, nic=facts.nic, vports=len(facts.vports))
