# SPDX-License-Identifier: Apache-2.0
"""Rules of one table as iptables-save(8) writes them. Pure; what is no rule is given back as text."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_SHORT = {
    "-s": "--source",
    "-d": "--destination",
    "-p": "--protocol",
    "-i": "--in-interface",
    "-o": "--out-interface",
    "-j": "--jump",
    "-g": "--goto",
}
_ONE_VALUE = frozenset({"--comment", "--log-prefix", "--nflog-prefix"})
"""Options whose only value may begin with a dash."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `options` by long name, the negated ones as `! --name`; values joined by blanks."""

    chain: str
    options: Mapping[str, str]
    text: str
    """As it was written, without the chain."""

    @property
    def target(self) -> str:
        """What it jumps to; empty: nothing."""
        return self.options.get("--jump") or self.options.get("--goto", "")

    @property
    def comment(self) -> str:
        """What whoever made it says of it."""
        return self.options.get("--comment", "")

    def has(self, *names: str) -> bool:
        """Whether it has one of these options, negated or not."""
        return any(name in self.options or f"! {name}" in self.options for name in names)


def parse_rules(text: str, table: str) -> tuple[list[Rule], list[str]]:
    """The rules of `table`, and the lines of it that are none."""
    rules: list[Rule] = []
    unknown: list[str] = []
    is_ours = False
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("*"):
            is_ours = line == f"*{table}"
        elif is_ours and line and not line.startswith((":", "#")) and line != "COMMIT":
            rule = _rule(line)
            if rule is None:
                unknown.append(line)
            else:
                rules.append(rule)
    return rules, unknown


def parse_chains(text: str, table: str) -> frozenset[str]:
    """The chains of `table`, also those without rules."""
    _, _, rest = text.partition(f"*{table}\n")
    own, _, _ = rest.partition("\nCOMMIT")
    return frozenset(line[1:].split(" ", 1)[0] for line in own.splitlines() if line.startswith(":"))


def _rule(line: str) -> Rule | None:
    line = re.sub(r"^\[\d+:\d+\] ", "", line)
    tokens = [quoted or word for quoted, word in _TOKEN.findall(line)]
    if len(tokens) < 2 or tokens[0] != "-A" or '"' in _TOKEN.sub(lambda match: match[2] or "", line):
        return None
    text = line.removeprefix(f"-A {tokens[1]}").strip()
    return Rule(tokens[1], _options(tokens[2:]), text)


def _options(tokens: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    name = ""
    is_negated = False
    for token in tokens:
        if name in _ONE_VALUE and name not in options:
            options[name] = token
        elif token == "!":
            is_negated = True
        elif token.startswith("-") and len(token) > 1:
            long = _SHORT.get(token, token)
            name = f"! {long}" if is_negated else long
            is_negated = False
            if name not in _ONE_VALUE:
                options.setdefault(name, "")
        elif name:
            options[name] = f"{options[name]} {token}".strip()
    return options
