# SPDX-License-Identifier: Apache-2.0
"""Puts overhop into a cluster, object by object."""

import secrets
from collections.abc import Callable, Iterable
from typing import Final

from collector.cluster.api import Api, ApiError
from overhop.cluster.certificate import make_certificate
from overhop.cluster.manifests import (
    CA_CONFIG,
    CONTROLLER,
    INFLUXDB,
    PEOPLE_SECRET,
    STORE_SECRET,
    TLS_SECRET,
    Object,
    Wish,
    config_map,
    path_of,
    secret,
    shown,
    wished,
)
from overhop.cluster.present import delete, exists, find, until

MANAGER: Final = "overhop"
_APPLY: Final = "application/apply-patch+yaml"
_INVALID: Final = 422
_GONE_S: Final = 20.0
Say = Callable[[str], None]


def objects_of(api: Api, wish: Wish, store_token: bytes | None) -> list[Object]:
    """All that is to be there; secrets that are there already stay as they are. Raises ApiError, OSError."""
    first, *others = wished(wish)
    made = [first]
    if not exists(api, secret(TLS_SECRET, wish.namespace, {})):
        service = f"{CONTROLLER}.{wish.namespace}.svc"
        certificate, key = make_certificate((CONTROLLER, service))
        pair = {"tls.crt": certificate, "tls.key": key}
        made.append(secret(TLS_SECRET, wish.namespace, pair, "kubernetes.io/tls"))
        made.append(config_map(CA_CONFIG, wish.namespace, {"ca.crt": certificate.decode()}))
    if not exists(api, secret(PEOPLE_SECRET, wish.namespace, {})):
        made.append(secret(PEOPLE_SECRET, wish.namespace, {"token": _new_token()}))
    if (
        wish.has_influxdb
        and store_token is None
        and not exists(api, secret(STORE_SECRET, wish.namespace, {}))
    ):
        store_token = _new_token()
    if store_token is not None:
        made.append(secret(STORE_SECRET, wish.namespace, {"token": store_token.strip()}))
    return [*made, *others]


def apply(api: Api, objects: Iterable[Object], say: Say) -> None:
    """Create or change them, in their order. Raises ApiError."""
    for each in objects:
        try:
            _apply(api, each)
        except ApiError as error:
            if each["kind"] != "Job" or error.status != _INVALID:
                raise
            _replace(api, each)
        say(f"{shown(each)}: applied")


def _replace(api: Api, job: Object) -> None:
    """A Job never takes another image: it is done again by a new one. Raises ApiError."""
    path = path_of(job)
    delete(api, path)
    until(lambda: find(api, path) is None, _GONE_S)
    _apply(api, job)


def _apply(api: Api, each: Object) -> None:
    query = {"fieldManager": MANAGER, "force": "true"}
    api.send("PATCH", path_of(each), each, query=query, content=_APPLY)


def trial_store(api: Api, namespace: str) -> str:
    """URL of the InfluxDB for trials, by its Service's address: agents need no DNS. Raises ApiError."""
    objects = wished(Wish(image="", namespace=namespace, has_influxdb=True))
    service = next(each for each in objects if shown(each) == f"service/{INFLUXDB}")
    apply(api, [objects[0], service], lambda _: None)
    address = api.get(path_of(service))["spec"]["clusterIP"]
    host = f"[{address}]" if ":" in address else address
    return f"influxdb2://{host}:8086/overhop"


def _new_token() -> bytes:
    return secrets.token_urlsafe(32).encode()
