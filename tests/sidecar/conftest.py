# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from overhop.sidecar.build import BuildError, build, find_compiler
from overhop.sidecar.filters import VARIANTS
from tests.require import require
from tests.sidecar.filtering import Filtering


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the native module of this checkout."""
    try:
        find_compiler()
    except BuildError as error:
        require(present=False, what=str(error))
    return build(tmp_path_factory.mktemp("modules")).parent


@pytest.fixture(params=VARIANTS)
def filtering(request: pytest.FixtureRequest, modules: Path, tmp_path: Path) -> Filtering:
    """Each variant."""
    return Filtering(request.param, modules, tmp_path)
