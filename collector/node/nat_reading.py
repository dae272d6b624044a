# SPDX-License-Identifier: Apache-2.0
"""Asks this network namespace for its rules of address translation: nftables and both kinds of iptables."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from collector.node.iptables_nat import parse_nat
from collector.node.nat import NatRules, joined
from collector.node.nftables import IPTABLES, parse_nft

_TIMEOUT_S: Final = 10
_FOREIGN: Final = re.compile(r"^# Table `nat' .*incompatible", re.MULTILINE)
"""What iptables-save says of a table called nat in which others' chains are."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed; a problem instead, if it failed."""

    text: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Answers:
    """Of one family. `legacy` None: the kernel has no rules of iptables' legacy back end."""

    save: Answer
    legacy: Answer | None
    nft: Answer


def read_nat() -> dict[str, NatRules]:
    """The rules of both families, `ipv4` and `ipv6`; needs CAP_NET_ADMIN, and NET_RAW for legacy iptables."""
    nft = _answer(("nft", "-j", "list", "ruleset"))
    return {
        "ipv4": rules_of(_answers("iptables", Path("/proc/net/ip_tables_names"), nft), "ipv4"),
        "ipv6": rules_of(_answers("ip6tables", Path("/proc/net/ip6_tables_names"), nft), "ipv6"),
    }


def rules_of(answers: Answers, family: str) -> NatRules:
    """What was answered, joined: the kernel applies all of it. `reason` says what is missing, if not all."""
    # What iptables made over nftables is shown in full by its own iptables-save only.
    shown = answers.save.text
    is_iptables = "(nf_tables)" in shown and _FOREIGN.search(shown) is None
    found = _of_nft(answers.nft, family, IPTABLES if is_iptables else frozenset())
    found = joined(_of_iptables(answers.save), found)
    return found if answers.legacy is None else joined(found, _of_iptables(answers.legacy))


def _of_iptables(answer: Answer) -> NatRules:
    return NatRules(read=False, reason=answer.problem) if answer.problem else parse_nat(answer.text)


def _of_nft(answer: Answer, family: str, without: frozenset[str]) -> NatRules:
    if answer.problem:
        return NatRules(read=False, reason=answer.problem)
    return parse_nft(answer.text, family, without)


def _answers(command: str, legacy_tables: Path, nft: Answer) -> Answers:
    try:
        has_legacy = "nat" in legacy_tables.read_text().split()
    except OSError:
        has_legacy = False  # the kernel has no such tables
    return Answers(
        save=_answer((f"{command}-save",)),
        legacy=_answer((f"{command}-legacy-save",)) if has_legacy else None,
        nft=nft,
    )


def _answer(command: Sequence[str]) -> Answer:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=_TIMEOUT_S,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        return Answer(problem=f"{command[0]} is not installed")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Answer(problem=f"{command[0]}: {error}")
    if done.returncode == 0:
        return Answer(done.stdout)
    said = " ".join(done.stderr.split()) or f"failed with {done.returncode}"
    return Answer(problem=said if command[0] in said else f"{command[0]}: {said}")
