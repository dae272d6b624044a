# SPDX-License-Identifier: Apache-2.0
"""`overhop config check`: what is wrong with the configuration, or what would apply and why."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from overhop import errors, output
from overhop.config import SETTINGS, shown
from overhop.sources import DEFAULT_FILE, ConfigError, Resolved

if TYPE_CHECKING:
    from agent.plan.model import Plan
    from agent.plan.yaml_document import Problem


@dataclass(frozen=True, slots=True)
class ConfigCheckOptions:
    """Options of the command. `resolve` reads the configuration and raises ConfigError."""

    resolve: Callable[[], Resolved]
    as_json: bool


def do_config_check(options: ConfigCheckOptions) -> int:
    """Check the configuration and the plan that it names. Raises ConfigError with all that is wrong."""
    try:
        resolved = options.resolve()
        plan = checked_plan(resolved.config.agent.plan)
    except ConfigError as error:
        if not options.as_json:
            raise
        output.show_json({"problems": [asdict(problem) for problem in error.problems]})
        return errors.USAGE
    if options.as_json:
        output.show_json(_as_json(resolved))
    else:
        _show(resolved, plan)
    return errors.DONE


def checked_plan(file: Path | None) -> "Plan | None":
    """The plan that a configuration names. Raises ConfigError."""
    from agent.plan.model import PlanError, load_plan

    if file is None:
        return None
    try:
        return load_plan(file)
    except PlanError as error:
        raise ConfigError(error.problems) from None


def _as_json(resolved: Resolved) -> Mapping[str, object]:
    none: list[Problem] = []
    return {
        "problems": none,
        "file": None if resolved.file is None else str(resolved.file),
        "settings": [
            {
                "name": each.name,
                "value": _plain(each.of(resolved.config)),
                "from": resolved.sources[each.name].kind,
                "source": resolved.sources[each.name].name,
                "option": each.option.flag,
                "variable": each.variable,
                "default": _plain(each.default),
                "doc": each.doc,
            }
            for each in SETTINGS
        ],
    }


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, bool) else str(value)


def _show(resolved: Resolved, plan: "Plan | None") -> None:
    nothing = f"no file (there is no {DEFAULT_FILE}): environment and defaults"
    output.show(output.literal(str(resolved.file or nothing)))
    table = output.plain_table(("setting", "value", "from"))
    for each in SETTINGS:
        value = shown(each.of(resolved.config))
        table.add_row(each.name, output.literal(value), output.literal(str(resolved.sources[each.name])))
    output.show(table)
    if plan is not None:
        nic = ", ".join(plan.nic) or "looked for"
        output.show(output.literal(f"the plan is right: nic {nic}, {len(plan.vports)} entries for vports"))
    output.show(output.literal("no problem found"))
