# SPDX-License-Identifier: Apache-2.0
from tests import lint_repository

PROJECT: dict[str, object] = {
    "dependencies": ["numpy>=2,<3"],
    "optional-dependencies": {"dev": ["types-PyYAML>=6"]},
}
HASH = " \\\n    --hash=sha256:00\n"


def test_problems_of_lock_that_fits_are_none() -> None:
    lock = f"numpy==2.1.0{HASH}types-pyyaml==6.0.1{HASH}"
    assert list(lint_repository.problems_of_lock(PROJECT, lock)) == []


def test_problems_of_lock_missing_and_wrong_version_are_named() -> None:
    assert list(lint_repository.problems_of_lock(PROJECT, f"numpy==1.26.4{HASH}")) == [
        "requirements.lock: numpy 1.26.4 is not <3,>=2",
        "requirements.lock: types-PyYAML of pyproject.toml is missing: see CONTRIBUTING.md",
    ]


def test_problems_of_lock_address_and_missing_hashes_are_named() -> None:
    lock = "--index-url https://example.org/simple\nnumpy==2.1.0\ntypes-pyyaml==6.0.1\n"
    assert list(lint_repository.problems_of_lock(PROJECT, lock)) == [
        "requirements.lock: contains an address: it must name versions and hashes only",
        "requirements.lock: has no hashes",
    ]


def test_machine_path_is_found_and_system_paths_are_not() -> None:
    home = "/" + "root/.cache"
    assert lint_repository.MACHINE_PATH.search(f"open {home}") is not None
    assert lint_repository.MACHINE_PATH.search("cd $root/bench; /usr/bin/python3; a/work") is None
