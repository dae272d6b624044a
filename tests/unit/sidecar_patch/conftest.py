# SPDX-License-Identifier: Apache-2.0
from collections.abc import Iterator

import pytest

from tests.require import require_commands
from tests.unit.sidecar_patch.fake_envoy import FakeEnvoy


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeEnvoy]:
    """Made once; a test that wants another configuration gives it."""
    require_commands("cc")
    with FakeEnvoy(tmp_path_factory.mktemp("fake_envoy")) as made:
        yield made
