# SPDX-License-Identifier: Apache-2.0
"""`overhop sidecar verify` of what real sidecars send."""

import json
from pathlib import Path

import yaml

from overhop.lab import Lab
from overhop.lab.mesh import bookinfo
from tests.e2e.envoy import require_envoy
from tests.kernel.test_sidecar_verify import captured, verify
from tests.require import require_commands

REQUESTS = 20
FIELD = len("traceparent: ") + 55 + 1


def test_verify_of_real_sidecars_has_the_offset_that_the_mesh_measured(tmp_path: Path) -> None:
    require_commands("ip", "bridge", "iptables", "ip6tables", "ethtool", "tcpdump")
    require_envoy()
    plan, file = tmp_path / "plan.yaml", tmp_path / "reviews.pcap"
    with Lab.make() as lab:
        town, node = bookinfo(lab), lab.nodes[1]
        plan.write_text(yaml.safe_dump(node.plan()))
        with captured(node, town.pods["reviews"].vport, file):
            sent = lab.external.http(str(town.address), town.port, path=town.path, requests=REQUESTS)
            sent.require_ok()
        needed = town.context_offset_bytes + FIELD
        enough = verify(node.netns, "--pcap", file, "--plan", plan, "--window", needed, "--json")
        too_few = verify(node.netns, "--pcap", file, "--window", needed - 1, "--json")
    made = json.loads(enough.stdout)
    assert made["offsets"] == [[town.context_offset_bytes, 2 * REQUESTS]]
    assert made["smallest"] == {"50": needed, "90": needed, "99": needed, "100": needed}
    assert {each["name"]: each["requests"] for each in made["senders"]} == {
        "bookinfo/productpage-v1": REQUESTS,
        "bookinfo/reviews-v1": REQUESTS,
    }
    assert (enough.returncode, too_few.returncode) == (0, 1)
    assert json.loads(too_few.stdout)["found"] == 0
