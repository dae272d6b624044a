# SPDX-License-Identifier: Apache-2.0
"""Real servers behind TLS: who signed the certificate must be known, and is asked for by name."""

import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from overhop.cli import main
from tests.require import require_commands
from tests.servers import Server, influxdb1, influxdb2


@dataclass(frozen=True, slots=True)
class Certificate:
    """Signed by itself."""

    file: Path
    key: Path


def certificate_for(directory: Path, alternative: str) -> Certificate:
    require_commands("openssl")
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    subject = ("-subj", "/CN=overhop-test", "-addext", f"subjectAltName={alternative}")
    files = ("-keyout", str(made.key), "-out", str(made.file))
    argv = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files)
    subprocess.run(argv, check=True, capture_output=True)
    return made


def behind_tls(server: Server, certificate: Certificate) -> None:
    """The same server, started again."""
    server.stop()
    if server.name == "influxdb2":
        server.env |= {"INFLUXD_TLS_CERT": str(certificate.file), "INFLUXD_TLS_KEY": str(certificate.key)}
    else:
        server.env |= {
            "INFLUXDB_HTTP_HTTPS_ENABLED": "true",
            "INFLUXDB_HTTP_HTTPS_CERTIFICATE": str(certificate.file),
            "INFLUXDB_HTTP_HTTPS_PRIVATE_KEY": str(certificate.key),
        }
    server.is_ready = answers_behind_tls
    server.start()


def answers_behind_tls(url: str) -> bool:
    blind = ssl.create_default_context()
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(f"{url.replace('http:', 'https:')}/ping", timeout=5, context=blind):
            return True
    except OSError:
        return False


@pytest.fixture(params=[influxdb2, influxdb1], ids=["influxdb2", "influxdb1"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with request.param(tmp_path) as found:
        yield found


def place(server: Server, *more: str) -> list[str]:
    url = server.target.replace("://", "+https://")
    token = ["--store-token-file", str(server.token_file)] if server.token_file else []
    return ["--store", url, *token, *more]


def test_store_behind_tls_is_written_and_read(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = certificate_for(tmp_path, "IP:127.0.0.1")
    behind_tls(server, certificate)
    at = place(server, "--store-ca-file", str(certificate.file))
    assert main(["store", "init", *at]) == 0
    assert main(["store", "check", *at]) == 0
    assert "written and read back" in capsys.readouterr().out
    assert main(["hops", "--since", "1h", *at]) == 0
    assert "no hop in that time" in capsys.readouterr().out


def test_store_behind_tls_of_an_unknown_authority_gets_nothing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behind_tls(server, certificate_for(tmp_path, "IP:127.0.0.1"))
    for command in (["store", "init"], ["hops", "--since", "1h"]):
        assert main([*command, *place(server)]) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert "--store-ca-file" in line
        assert "self-signed certificate" in line


def test_store_behind_tls_under_another_name_gets_nothing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate = certificate_for(tmp_path, "DNS:elsewhere.example")
    behind_tls(server, certificate)
    assert main(["store", "init", *place(server, "--store-ca-file", str(certificate.file))]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "127.0.0.1" in line
    assert "certificate" in line


def test_store_behind_tls_asked_without_it_says_so(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    behind_tls(server, certificate_for(tmp_path, "IP:127.0.0.1"))
    at = [each.replace("+https", "") for each in place(server)]
    assert main(["store", "init", *at]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "HTTPS" in line
