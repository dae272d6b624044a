# SPDX-License-Identifier: Apache-2.0
"""`python -m overhop`, and what the command `overhop` calls."""

import gc
import os
import signal
import sys

_OBJECTS_PER_LOOK = 50_000


def main() -> int:
    """Run one command; its exit code. Ctrl-C while Python still loads it ends it without a word."""
    # numpy's linear algebra is never used; its threads take 30 ms of CPU at each start.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Nobody adds to our models; to look for who does takes pydantic 15 ms.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")
    # What is made here is freed when it is no longer referred to: looking for cycles every 700 objects took a
    # fifth of the time to start and to read a day of rows.
    gc.set_threshold(_OBJECTS_PER_LOOK)
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from overhop import cli

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
