# SPDX-License-Identifier: Apache-2.0
"""Where something is measured."""

import os
import platform

import numpy as np


def environment() -> dict[str, object]:
    """What numbers depend on, besides what each benchmark adds; `load_average` of one minute."""
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
