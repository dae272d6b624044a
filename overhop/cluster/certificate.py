# SPDX-License-Identifier: Apache-2.0
"""A certificate for the controller that signs itself, by openssl(1): agents trust exactly this one."""

import subprocess
import tempfile
from pathlib import Path
from typing import Final

DAYS: Final = 3650
_TIMEOUT_S: Final = 30


def make_certificate(names: tuple[str, ...]) -> tuple[bytes, bytes]:
    """Certificate and key (PEM) for these DNS names. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix="overhop-") as directory:
        certificate, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
        command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", str(DAYS), "-subj", f"/CN={names[0]}", "-keyout", str(key), "-out", str(certificate),
            "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names),
            "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0",
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        except FileNotFoundError:
            raise OSError("openssl is not installed: it makes the controller's certificate") from None
        except subprocess.TimeoutExpired:
            raise OSError(f"openssl did not end within {_TIMEOUT_S} s") from None
        if done.returncode != 0:
            raise OSError(f"openssl: {' '.join(done.stderr.split())[-200:]}")
        return certificate.read_bytes(), key.read_bytes()
