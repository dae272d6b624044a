# SPDX-License-Identifier: Apache-2.0
"""Record a real engine's answers and rules in tests/data: `python -m tests.record_docker`, as root."""

import http.client
import json
import socket
import tempfile
from pathlib import Path

from tests.dockerd import Dockerd, dockerd, populate

HERE = Path(__file__).parent / "data" / "docker"
NAT = HERE.parent / "nat" / "iptables-docker.txt"
PATHS = {"version.json": "/version", "list.json": "/v1.41/containers/json"}
_PLAIN = {
    "KernelVersion": "6.12.1",
    "ImageID": "",
    "Image": "",
    "HostnamePath": "",
    "HostsPath": "",
    "LogPath": "",
}
"""What is of the machine and not of the engine, and what stands for it."""


def main() -> None:
    """Start an engine, ask it, write."""
    with tempfile.TemporaryDirectory() as place, dockerd(Path(place)) as engine:
        populate(engine)
        found = {name: asked(engine, path) for name, path in PATHS.items()}
        ids = [each["Id"] for each in json.loads(found["list.json"])]
        inspected = {each: json.loads(asked(engine, f"/v1.41/containers/{each}/json")) for each in ids}
        found["inspect.json"] = json.dumps(inspected)
        for name, text in found.items():
            (HERE / name).write_text(cleaned(text, place, engine.cgroup))
        NAT.write_text(rules(engine))


def asked(engine: Dockerd, path: str) -> str:
    """As the engine answers; not by what is tested with it."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(engine.socket))
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def cleaned(text: str, place: str, cgroup: str) -> str:
    """Without the machine's own paths and versions."""
    plain = text.replace(place, "/var/lib/docker").replace(cgroup, "/docker")
    found = json.loads(
        plain, object_hook=lambda each: {key: _PLAIN.get(key, value) for key, value in each.items()}
    )
    return json.dumps(found, indent=1) + "\n"


def rules(engine: Dockerd) -> str:
    """Without the lines that say when and by which version."""
    lines = engine.space.run(("iptables-save",)).splitlines()
    return "\n".join(line for line in lines if not line.startswith("#")) + "\n"


if __name__ == "__main__":
    main()
