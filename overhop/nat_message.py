# SPDX-License-Identifier: Apache-2.0
"""This node's rules of translation as the controller wants them (dispatcher.drift_book.NatMessage).

`python -m overhop.nat_message` prints them: an agent runs it as a child, because reading ten thousand
services takes seconds and memory.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collector.node.nat import NatRules

_FIELDS = ("kind", "name", "protocol", "address", "port", "affinity_s", "refused")


def message_of(rules: "Mapping[str, NatRules]") -> dict[str, object]:
    """The message, as plain data."""
    return {
        family: {
            "read": each.read,
            "reason": each.reason[:2000],
            "not_understood": each.not_understood,
            "services": [
                {name: getattr(one, name) for name in _FIELDS}
                | {"backends": [asdict(backend) for backend in one.backends]}
                for one in each.services
            ],
        }
        for family, each in rules.items()
    }


def main() -> None:
    """Print it."""
    from collector.node.nat_reading import read_nat

    json.dump(message_of(read_nat()), sys.stdout)


if __name__ == "__main__":
    main()
