# SPDX-License-Identifier: Apache-2.0
"""Where settings come from: option > environment > file > default, for all of them alike (docs/config.md)."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from overhop.config import SETTINGS, Config, LoggingSection, Setting
from overhop.errors import UsageError
from store.influxdb.target import Flavour, Target

if TYPE_CHECKING:
    from agent.plan.yaml_document import Document, Problem

DEFAULT_FILE = Path("/etc/overhop/overhop.yaml")
FILE_OPTION = "--config"
FILE_VARIABLE = "OVERHOP_CONFIG"
_SWITCH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class ConfigError(UsageError):
    """The configuration cannot be used; `problems` are all that is wrong with it."""

    def __init__(self, problems: "Sequence[Problem]") -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: `kind` is option, environment, file or default."""

    kind: str
    name: str = ""
    """`--store`, `OVERHOP_STORE`, `/etc/overhop/overhop.yaml:7`; of a default: empty."""

    def __str__(self) -> str:
        return self.name or self.kind


@dataclass(frozen=True, slots=True)
class Resolved:
    """The configuration that applies, and why."""

    config: Config
    file: Path | None
    """None: there is none."""
    sources: Mapping[str, Source]
    """By the name of the setting."""


@dataclass(frozen=True, slots=True)
class _Given:
    """A value that was given, as it was checked."""

    value: object
    source: Source


def resolve(
    options: Mapping[str, object],
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    default_file: Path = DEFAULT_FILE,
) -> Resolved:
    """The configuration that applies. `options` by flag (`--store`); None: not given.

    `file` is what --config says. Raises ConfigError with everything that is wrong.
    """
    variables = os.environ if environment is None else environment
    problems: list[Problem] = []
    found = _file(file, variables, default_file)
    given = {} if found is None else _from_file(found, problems)
    given |= _from_variables(variables, problems)
    given |= _from_options(options, problems)
    _report_conflicts(given, problems)
    if problems:
        raise ConfigError(problems)
    default = Source("default")
    sources = {each.name: given[each.name].source if each.name in given else default for each in SETTINGS}
    return Resolved(_config({name: one.value for name, one in given.items()}), found, sources)


def _file(file: Path | None, variables: Mapping[str, str], default_file: Path) -> Path | None:
    if file is not None:
        return file
    if named := variables.get(FILE_VARIABLE):
        return Path(named)
    return default_file if default_file.exists() else None


def _from_file(file: Path, problems: "list[Problem]") -> dict[str, _Given]:
    from agent.plan.yaml_document import load
    from agent.plan.yaml_model import kind_of, validated

    document = load(file)
    checked: Config | None = None
    if isinstance(document.data, dict):
        checked = validated(document, document.data, Config)
    elif document.data is not None and not document.problems:
        document.report((), f"must be a mapping of settings, not {kind_of(document.data)}")
    problems.extend(sorted(document.problems))
    if checked is None:
        return {}
    return {
        each.name: _Given(_absolute(each.of(checked), file), _place(document, each))
        for each in SETTINGS
        if each.path in document.places
    }


def _absolute(value: object, file: Path) -> object:
    """Paths in a file are relative to its directory."""
    return file.absolute().parent / value if isinstance(value, Path) else value


def _place(document: "Document", setting: Setting) -> Source:
    line, _ = document.places[setting.path]
    return Source("file", f"{document.file}:{line}")


def _from_variables(variables: Mapping[str, str], problems: "list[Problem]") -> dict[str, _Given]:
    """An empty variable is one that is not set."""
    found = {each: variables.get(each.variable, "") for each in SETTINGS}
    return _checked(
        {each: text for each, text in found.items() if text},
        "environment",
        lambda each: each.variable,
        problems,
    )


def _from_options(options: Mapping[str, object], problems: "list[Problem]") -> dict[str, _Given]:
    found = {each: options.get(each.option.flag) for each in SETTINGS}
    return _checked(
        {each: value for each, value in found.items() if value is not None},
        "option",
        lambda each: each.option.flag,
        problems,
    )


def _checked(
    found: Mapping[Setting, object], kind: str, name: Callable[[Setting], str], problems: "list[Problem]"
) -> dict[str, _Given]:
    given = {}
    for each, raw in found.items():
        value = _SWITCH.get(raw.lower(), raw) if each.is_switch and isinstance(raw, str) else raw
        try:
            config = _config({each.name: value})
        except ValidationError as error:
            from agent.plan.yaml_document import Problem
            from agent.plan.yaml_model import message

            [detail] = error.errors(include_url=False)
            problems.append(Problem(name(each), 0, 0, "", message(detail, Config)))
        else:
            given[each.name] = _Given(each.of(config), Source(kind, name(each)))
    return given


def _config(values: Mapping[str, object]) -> Config:
    """Raises ValidationError."""
    data: dict[str, object] = {}
    for each in SETTINGS:
        if each.name in values:
            section: Any = data
            for key in each.path[:-1]:
                section = section.setdefault(key, {})
            section[each.path[-1]] = values[each.name]
    return Config.model_validate(data)


def logging_before(
    options: Mapping[str, object], environment: Mapping[str, str] | None = None
) -> LoggingSection:
    """How to log until it is known which file applies. Raises ConfigError."""
    variables = os.environ if environment is None else environment
    ours = [each for each in SETTINGS if each.path[0] == "logging"]
    return resolve(
        {each.option.flag: options.get(each.option.flag) for each in ours},
        environment={each.variable: variables.get(each.variable, "") for each in ours},
        default_file=Path(os.devnull),
    ).config.logging


def _report_conflicts(given: Mapping[str, _Given], problems: "list[Problem]") -> None:
    plan, nic = given.get("agent.plan"), given.get("agent.nic")
    if plan is not None and nic is not None and plan.value is not None and nic.value is not None:
        where = f"{plan.source} and {nic.source}"
        _report(problems, where, "the plan names the NIC: give one of them, or none for the other")
    url = given.get("store.url")
    if url is None or not isinstance(url.value, Target):
        return
    token, spool = given.get("store.token_file"), given.get("store.spool")
    if token is None or token.value is None:
        if url.value.flavour is Flavour.INFLUXDB2:
            _report(problems, str(url.source), "influxdb2 needs a token: name its file with store.token_file")
        if url.value.user:
            _report(problems, str(url.source), "a user needs a password: name its file with store.token_file")
    if spool is not None and spool.value is None:
        _report(problems, str(spool.source), "rows that go to a server wait in a spool: name its directory")


def _report(problems: "list[Problem]", where: str, message: str) -> None:
    from agent.plan.yaml_document import Problem

    problems.append(Problem(where, 0, 0, "", message))
