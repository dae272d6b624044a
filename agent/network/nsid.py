# SPDX-License-Identifier: Apache-2.0
"""What this network namespace calls another one (man 7 rtnetlink, RTM_GETNSID); no setns needed."""

import struct
from contextlib import suppress
from typing import Final

from agent.network import rtnetlink

_RTM_GETNSID: Final = 90
_NETNSA_NSID: Final = 1
_NETNSA_PID: Final = 2
_FAMILY: Final = struct.Struct("=B3x")


def nsid_of(pid: int) -> int | None:
    """Of the network namespace of a process; None: there is no such process, or no number yet."""
    request = _FAMILY.pack(0) + rtnetlink.attribute(_NETNSA_PID, struct.pack("=I", pid))
    with suppress(OSError):
        body = rtnetlink.get(_RTM_GETNSID, request, "look up a network namespace").body
        found = rtnetlink.attributes(body[_FAMILY.size :]).get(_NETNSA_NSID)
        if found is not None and len(found) == 4:
            (nsid,) = struct.unpack("=i", found)
            return int(nsid) if nsid >= 0 else None
    return None
