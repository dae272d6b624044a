# SPDX-License-Identifier: Apache-2.0
"""`overhop clean`: remove what a killed agent of this network namespace, lab or demo left behind."""

from dataclasses import dataclass

from overhop import errors, output


@dataclass(frozen=True, slots=True)
class CleanOptions:
    """Options of the command."""

    as_json: bool


def do_clean(options: CleanOptions) -> int:
    """Remove leftovers, and only ours. Raises AlreadyRunning, naming the pid, if an agent runs here."""
    from agent.hooks.sweep import sweep as sweep_agent
    from overhop.demo.directory import sweep as sweep_demos
    from overhop.lab import sweep as sweep_labs

    removed = [*sweep_agent(), *(f"lab {name}" for name in sweep_labs())]
    removed += [f"directory {path}" for path in sweep_demos()]
    if options.as_json:
        output.show_json({"removed": removed})
    elif not removed:
        output.show("nothing to remove")
    for line in [] if options.as_json else removed:
        output.show(output.literal(f"removed {line}"))
    return errors.DONE
