# SPDX-License-Identifier: Apache-2.0
"""Where the native module is."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from overhop.sidecar.filters import MODULE, PATCH

ENVIRONMENT: Final = "OVERHOP_SIDECAR_MODULE"
SEARCH_PATH: Final = "ENVOY_DYNAMIC_MODULES_SEARCH_PATH"
"""Of Envoy: the directory in which it looks for `lib<name>.so`."""
FILE: Final = f"lib{MODULE}.so"
BUILT: Final = PATCH.parent / "build" / "sidecar"
"""Where `./dev sidecar build` puts it."""


class ModuleMissingError(Exception):
    """The native module is not there."""


def module_directory(environment: Mapping[str, str] = os.environ) -> Path:
    """That of $OVERHOP_SIDECAR_MODULE, else of what was built. Raises ModuleMissingError."""
    named = environment.get(ENVIRONMENT)
    place = Path(named) if named else BUILT
    if not (place / FILE).is_file():
        what = f"{ENVIRONMENT}={named}" if named else str(place)
        raise ModuleMissingError(f"{what}: no {FILE} there: run ./dev sidecar build, or use the Lua variant")
    return place
