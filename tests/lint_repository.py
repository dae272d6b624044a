# SPDX-License-Identifier: Apache-2.0
"""Checks of the tracked files that no other linter makes; prints each problem, exits 1 if there is one."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
NEED_LICENCE_LINE = {".py", ".c", ".h", ".sh", ".toml", ".yaml", ".yml"}
MACHINE_PATH = re.compile(r"(?<![\w.$}>*/-])/(work|root|farm)(/|\b)")
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)")


def tracked_files() -> list[Path]:
    """Every file that git tracks, as paths below ROOT."""
    # git refuses a checkout of somebody else's (CI runs as root) unless told.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def problems_of_file(path: Path) -> Iterator[str]:
    """Missing licence line, or a path of somebody's machine."""
    name = path.relative_to(ROOT)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return
    is_script = bool(lines) and lines[0].startswith("#!")
    needs_licence = bool(lines) and (path.suffix in NEED_LICENCE_LINE or is_script)
    if needs_licence and not any("SPDX-License-Identifier:" in line for line in lines[:3]):
        yield f"{name}:1: no SPDX-License-Identifier line among the first three"
    for number, line in enumerate(lines, start=1):
        if found := MACHINE_PATH.search(line):
            yield f"{name}:{number}: path of one machine: {found.group(0)}"


def problems_of_lock(project: dict[str, object], lock: str) -> Iterator[str]:
    """Requirements of pyproject.toml that requirements.lock lacks or contradicts; addresses in it."""
    pinned = {
        canonical(found.group(1)): Version(found.group(2))
        for line in lock.splitlines()
        if (found := PINNED.match(line))
    }
    for text in requirements_of(project):
        requirement = Requirement(text)
        version = pinned.get(canonical(requirement.name))
        if version is None:
            yield f"requirements.lock: {requirement.name} of pyproject.toml is missing: see CONTRIBUTING.md"
        elif version not in requirement.specifier:
            yield f"requirements.lock: {requirement.name} {version} is not {requirement.specifier}"
    if "://" in lock:
        yield "requirements.lock: contains an address: it must name versions and hashes only"
    if lock.count("==") and "--hash=sha256:" not in lock:
        yield "requirements.lock: has no hashes"


def requirements_of(project: dict[str, object]) -> list[str]:
    """Requirements of the `project` table, extras included."""
    found = list(_strings(project["dependencies"]))
    extras = project.get("optional-dependencies", {})
    if isinstance(extras, dict):
        for group in extras.values():
            found += _strings(group)
    return found


def canonical(name: str) -> str:
    """Package name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def main() -> int:
    """Print every problem; 1 if there is one."""
    problems = [problem for path in tracked_files() for problem in problems_of_file(path)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    problems += problems_of_lock(project, (ROOT / "requirements.lock").read_text())
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
