# SPDX-License-Identifier: Apache-2.0
"""In which order a server shall get the headers that Envoy would have sent in another (pure)."""

from collections.abc import Sequence

Fields = list[tuple[bytes, bytes]]
"""Names in lower case. Without pseudo headers, and without host, which is one."""


def wanted(fields: Fields, names: Sequence[bytes], *, moves_empty: bool) -> Fields:
    """The fields in that order."""
    return [fields[at] for at in wanted_order(fields, names, moves_empty=moves_empty)]


def wanted_order(fields: Fields, names: Sequence[bytes], *, moves_empty: bool) -> list[int]:
    """Places of the fields: contexts as `names` has them, then the others as they were.

    Unless `moves_empty`, the filter cannot move what has no value (docs/sidecar-native.md): what stands
    before the last such header that is no context stays, with all of the same names; and behind it contexts
    keep their order if one without a value would have to move.
    """
    begin = 0 if moves_empty else _held(fields, names)
    rest = range(begin, len(fields))
    contexts = sorted(
        (at for at in rest if fields[at][0] in names), key=lambda at: names.index(fields[at][0])
    )
    if not moves_empty and any(not fields[at][1] for at in _moved(contexts)):
        contexts.sort()
    return [*range(begin), *contexts, *(at for at in rest if fields[at][0] not in names)]


def _held(fields: Fields, names: Sequence[bytes]) -> int:
    """How many fields at the head cannot be passed by others."""
    end = max(
        (at for at, (name, value) in enumerate(fields, 1) if not value and name not in names), default=0
    )
    while True:
        inside = {name for name, _ in fields[:end]}
        further = max((at for at, (name, _) in enumerate(fields, 1) if name in inside), default=0)
        if further <= end:
            return end
        end = further


def _moved(contexts: list[int]) -> list[int]:
    """Those behind the first that stood before its forerunner."""
    for at in range(1, len(contexts)):
        if contexts[at] < contexts[at - 1]:
            return contexts[at:]
    return []
