# SPDX-License-Identifier: Apache-2.0
"""The kernel programs on Debian's kernels 6.1 and 6.12 in emulated machines, and on this one.

`./dev test kernels` (not part of `./dev test`: it needs qemu, downloads two kernels the first time, 180 MB in
all, and takes minutes). Standard output: one Markdown table, or JSON. Exit code 1: something is not as it
should be, said on standard error.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bpf.spec import SOURCE
from tests.kernels import bytecode, guest, images, qemu, report
from tests.kernels.builds import builds

HERE = "here"


def main() -> int:
    """Ask each kernel; exit code 0, or 1 with the problems on standard error."""
    options = _options()
    images.BUILD.mkdir(parents=True, exist_ok=True)
    compiled = images.BUILD / "bytecode.json"
    _say("compiling")
    bytecode.compile_builds(compiled, builds(), options.source)
    results = {}
    root = None
    for name in options.kernel or (*images.SERIES, HERE):
        begin_s = time.monotonic()
        if name == HERE:
            results[os.uname().release] = _here(options.step)
        else:
            kernel = images.kernel(name)
            root = root or images.root_disk()
            _say(f"{kernel.release}: booting")
            results[kernel.release] = qemu.run_steps(kernel, root, compiled, options.step)
        _say(f"{name}: {time.monotonic() - begin_s:.0f} s")
    if root:
        root.unlink()
    found = report.problems(results)
    if options.json:
        print(json.dumps({"results": results, "problems": found}))
    else:
        print("\n".join((*report.table(results), "", *report.other_steps(results))))
    for problem in found:
        _say(f"PROBLEM {problem}")
    return 1 if found else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev test kernels", description=__doc__)
    parser.add_argument(
        "--kernel", choices=(*images.SERIES, HERE), action="append", help="repeatable; default: all"
    )
    parser.add_argument("--step", choices=guest.STEPS, action="append", help="repeatable; default: all")
    parser.add_argument("--source", type=Path, default=SOURCE, help="another C file than that of the product")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    options.step = options.step or list(guest.STEPS)
    return options


def _here(steps: list[str]) -> list[report.Line]:
    compiled = str(images.BUILD / "bytecode.json")
    command = [sys.executable, "-m", "tests.kernels.guest", "--bytecode", compiled, *steps]
    done = subprocess.run(command, cwd=images.ROOT, stdout=subprocess.PIPE, text=True, check=False)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _say(text: str) -> None:
    print(f"kernels: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
