# SPDX-License-Identifier: Apache-2.0
"""`overhop sidecar render | apply | remove` (docs/sidecar.md)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from overhop import errors, output

if TYPE_CHECKING:
    from collector.cluster.api import Api
    from overhop.sidecar.cluster import Done
    from overhop.sidecar.wish import Given, Wish


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster, and how."""

    kubeconfig: Path | None
    context: str | None
    dry_run: bool
    as_json: bool


def given(
    target: str,
    variant: str,
    headers: str | None,
    protocols: Sequence[str] | None,
    namespace: str,
    selector: Sequence[str] | None,
) -> "Given":
    """Options as they came."""
    from overhop.sidecar.contexts import DEFAULT_HEADERS
    from overhop.sidecar.wish import Given

    named = ",".join(DEFAULT_HEADERS) if headers is None else headers
    return Given(target, variant, named, protocols or (), namespace, selector or ())


def do_render(options: "Given", *, as_json: bool) -> int:
    """Print it. Raises UsageError."""
    from overhop.sidecar.fragment import envoy_fragment
    from overhop.sidecar.istio import envoy_filter

    wish = _wish(options)
    rendered = envoy_fragment(wish) if wish.target == "envoy" else envoy_filter(wish)
    if as_json:
        output.show_json(rendered)
    else:
        output.show_lines(shown(rendered).splitlines())
    return errors.DONE


def shown(data: object) -> str:
    """YAML, the filter's lines as lines."""
    return yaml.dump(data, Dumper=_Lines, sort_keys=False, width=120, allow_unicode=True)


def do_apply(options: "Given", where: Where) -> int:
    """Create or change the EnvoyFilter. Raises UsageError."""
    from overhop.sidecar.cluster import apply
    from overhop.sidecar.istio import envoy_filter

    wanted = envoy_filter(_wish(options))
    return _told(where, lambda api: apply(api, wanted, dry_run=where.dry_run))


def do_remove(options: "Given", where: Where) -> int:
    """Remove it. Exit code 1: there is none. Raises UsageError."""
    from overhop.sidecar.cluster import remove
    from overhop.sidecar.istio import envoy_filter

    wanted = envoy_filter(_wish(options))
    return _told(where, lambda api: remove(api, wanted, dry_run=where.dry_run))


def _told(where: Where, act: "Callable[[Api], Done]") -> int:
    from overhop.commands.cluster import Where as Cluster
    from overhop.commands.cluster import asked

    with asked(Cluster(where.kubeconfig, where.context, "")) as api:
        done = act(api)
    if where.as_json:
        output.show_json({"object": done.name, "done": done.what, "dry_run": where.dry_run})
    else:
        output.show_lines([f"{done.name}: {done.what}{' (dry run)' if where.dry_run else ''}"])
    return errors.DONE if done.is_done else errors.FAILED


def _wish(options: "Given") -> "Wish":
    """Raises UsageError: all that is wrong, a line each."""
    from overhop.sidecar.wish import WishError, parse_wish

    try:
        return parse_wish(options)
    except WishError as error:
        raise errors.UsageError("\n".join(error.problems)) from None


class _Lines(yaml.SafeDumper):
    """Texts of several lines are written as such, so that the filter can be read."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Lines.add_representer(str, _text)
