# SPDX-License-Identifier: Apache-2.0
import numpy as np

from agent.naming.namer import CHUNK, Namer
from agent.network.links import Link
from agent.plan.model import Plan, VportPlan
from bpf.record import RECORD, Kind


def test_rows_name_records_without_counting_them() -> None:
    namer = Namer()
    plan = Plan(nic=("eth0",), vports=(VportPlan(match="v1", namespace="shop", pod="web-1", workload="web"),))
    namer.update(plan, [Link(7, "v1")], 0)
    records = np.zeros(CHUNK + 1, RECORD)
    records["kind_message"] = Kind.TX
    records["first_ifindex"] = 7
    records["dst"] = [number.to_bytes(16, "big") for number in range(CHUNK + 1)]
    rows = namer.rows(records)
    assert len(rows) == CHUNK + 1
    assert rows[0] == ("tx", "request", "shop", "web-1", "web", "", "", "unknown", "", "none", "none")
    assert namer.counters()["unknown_destination"] == 0
    assert namer.rows(records[:0]) == []
