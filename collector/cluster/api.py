# SPDX-License-Identifier: Apache-2.0
"""HTTP to the Kubernetes API: settings and authentication by the `kubernetes` client, answers as plain JSON.

The client's typed models cost 78 KB and 0.9 ms a pod; here an object is a dictionary for as long as it takes
to pick what is needed of it.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final
from urllib.parse import urlencode

import urllib3
from kubernetes.client import ApiClient, Configuration, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config
from kubernetes.stream import portforward
from urllib3.exceptions import HTTPError

MAX_LINE_BYTES: Final = 16 << 20
"""etcd takes no object above some 1.5 MB."""
TIMEOUT_S: Final = 30.0
_CONNECT_S: Final = 5.0
_SHOWN: Final = 200
_KEEP_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
"""A server that is gone without a word is noticed within 25 s."""


class NoClusterError(Exception):
    """It is not known where the API server is, or how to log in; one line says why."""


class ApiError(Exception):
    """The API server refused, or could not be asked. `status`: of HTTP, 0 where there was no answer."""

    def __init__(self, status: int, message: str, what: str) -> None:
        self.status = status
        super().__init__(f"Kubernetes API: {what}: {message}")


class Api:
    """One cluster's API. Threads may share it."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._client = ApiClient(configuration)
        self._pool: urllib3.PoolManager = self._client.rest_client.pool_manager
        kept: dict[str, object] = self._pool.connection_pool_kw
        kept["socket_options"] = list(_KEEP_ALIVE)
        kept["maxsize"] = 16

    @property
    def server(self) -> str:
        """Its address."""
        return str(self._configuration.host)

    def close(self) -> None:
        """Connections that wait for use are closed."""
        self._pool.clear()

    def get(
        self, path: str, query: Mapping[str, object] | None = None, accept: str = "application/json"
    ) -> dict[str, Any]:
        """One object, or a list of them. Raises ApiError."""
        return self.send("GET", path, query=query, accept=accept)

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, object] | None = None,
        accept: str = "application/json",
        content: str = "application/json",
        timeout_s: float = TIMEOUT_S,
    ) -> dict[str, Any]:
        """The JSON object that is answered. Raises ApiError."""
        response = self._request(method, path, body, query, accept, content, timeout_s)
        try:
            data = response.read()
        except (HTTPError, OSError) as error:
            raise ApiError(0, _short(error), f"{method} {path}") from None
        finally:
            response.release_conn()
        if response.status >= 300:
            raise ApiError(response.status, _reason(response.status, data), f"{method} {path}")
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ApiError(0, "the answer is no JSON object", f"{method} {path}")
        return found

    def watch(self, path: str, query: Mapping[str, object], accept: str, timeout_s: float) -> "Stream":
        """Lines as they come, for at most some `timeout_s`. Raises ApiError."""
        response = self._request("GET", path, None, query, accept, "", timeout_s)
        if response.status >= 300:
            try:
                data = response.read()
            except (HTTPError, OSError):
                data = b""
            response.close()
            raise ApiError(response.status, _reason(response.status, data), f"watch {path}")
        return Stream(response, f"watch {path}")

    @contextmanager
    def forwarded(self, namespace: str, pod: str, port: int) -> Iterator[socket.socket]:
        """A connection to a port of a pod, by way of the API server and the pod's node. Raises ApiError."""
        what = f"port-forward to {namespace}/{pod}:{port}"
        try:
            found = portforward(
                CoreV1Api(self._client).connect_get_namespaced_pod_portforward,
                pod,
                namespace,
                ports=str(port),
            )
        except ApiException as error:
            raise ApiError(int(error.status or 0), str(error.reason), what) from None
        try:
            yield found.socket(port)
            problem = found.error(port)
        except OSError as error:
            raise ApiError(0, str(found.error(port) or _short(error)), what) from None
        finally:
            found.close()
        if problem:
            raise ApiError(0, str(problem), what)

    def _request(
        self,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, object] | None,
        accept: str,
        content: str,
        timeout_s: float,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": accept, "User-Agent": "overhop"}
        if body is not None:
            headers["Content-Type"] = content
        token = self._configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            headers["Authorization"] = token
        try:
            return self._pool.request(
                method,
                self.server + path + ("?" + urlencode(query) if query else ""),
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                preload_content=False,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(connect=_CONNECT_S, read=timeout_s),
            )
        except (HTTPError, OSError) as error:
            raise ApiError(0, _short(error), f"{method} {self.server}{path}") from None


class Stream:
    """The lines of one answer. Another thread may end it."""

    def __init__(self, response: urllib3.BaseHTTPResponse, what: str) -> None:
        self._response = response
        self._what = what

    def lines(self) -> Iterator[bytes]:
        """Until the server closes. Raises ApiError: in the middle, or a line is too long."""
        kept: list[bytes] = []
        length = 0
        try:
            for part in self._response.stream(1 << 16):
                *whole, rest = part.split(b"\n")
                for line in whole:
                    yield b"".join((*kept, line))
                    kept, length = [], 0
                kept.append(rest)
                length += len(rest)
                if length > MAX_LINE_BYTES:
                    raise ApiError(0, f"a line of more than {MAX_LINE_BYTES} bytes", self._what)
        except (HTTPError, OSError, ValueError) as error:
            raise ApiError(0, _short(error), self._what) from None
        finally:
            self._response.close()

    def end(self) -> None:
        """Whoever waits for a line gets an end, or an ApiError."""
        connection = self._response.connection
        sock = getattr(connection, "sock", None)
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def connect(kubeconfig: str | None = None, context: str | None = None) -> Api:
    """By `kubeconfig`, else $KUBECONFIG, else as a pod of the cluster, else by ~/.kube/config.

    Raises NoClusterError.
    """
    configuration = Configuration()
    try:
        if kubeconfig is None and context is None and not os.environ.get("KUBECONFIG") and _is_in_a_pod():
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            load_kube_config(kubeconfig, context, client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        where = (
            kubeconfig or os.environ.get("KUBECONFIG") or "no --kubeconfig, no KUBECONFIG, no ~/.kube/config"
        )
        raise NoClusterError(f"no Kubernetes cluster: {where}: {_short(error)}") from None
    except Exception as error:  # noqa: BLE001  broken YAML, a login program that fails: whatever the client raises
        raise NoClusterError(f"no Kubernetes cluster: {_short(error)}") from None
    try:
        return Api(configuration)
    except (OSError, ValueError) as error:
        raise NoClusterError(f"no Kubernetes cluster: {_short(error)}") from None


def _is_in_a_pod() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST"))


def _reason(status: int, data: bytes) -> str:
    """What a Status object says, else the number."""
    with suppress(ValueError, RecursionError):
        found = json.loads(data)
        if isinstance(found, dict) and isinstance(found.get("message"), str) and found["message"]:
            return f"{status}: {found['message'][:_SHOWN]}"
    return f"HTTP {status}"


def _short(error: BaseException) -> str:
    """One line, without the objects that urllib3 puts in."""
    inner = error
    for _ in range(4):
        deeper = getattr(inner, "reason", None) or inner.__cause__ or inner.__context__
        if not isinstance(deeper, BaseException):
            break
        inner = deeper
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    text = " ".join(str(inner).split()) or type(inner).__name__
    return (
        text.rsplit("object at 0x", 1)[-1].partition(": ")[2] or text[:_SHOWN]
        if "0x" in text
        else text[:_SHOWN]
    )
