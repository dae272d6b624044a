# SPDX-License-Identifier: Apache-2.0
"""`python -m overhop`."""

import sys

from overhop.cli import main

if __name__ == "__main__":
    sys.exit(main())
