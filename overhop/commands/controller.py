# SPDX-License-Identifier: Apache-2.0
"""`overhop controller`: follow a cluster, plan, answer agents, until stopped."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import overhop
from overhop import errors, output
from overhop.config import Config
from overhop.sources import ConfigError, Resolved

if TYPE_CHECKING:
    from dispatcher.identity import Identities
    from dispatcher.policy import Policies

_MAX_SECRET_BYTES = 64 << 10


def do_controller(resolved: Resolved, *, as_json: bool) -> int:
    """Run it, and say at the end what it knew. Raises UsageError, ConfigError, OSError: it cannot begin."""
    from collector.cluster.api import NoClusterError, connect
    from dispatcher.controller import Controller, ControllerConfig
    from dispatcher.metrics import serve_metrics

    config = resolved.config
    own = config.controller
    if own.listen is None:
        raise errors.UsageError("--listen none: a controller must listen somewhere")
    if (own.certificate is None) != (own.key is None):
        raise errors.UsageError("a certificate needs its key: give both of --tls-cert and --tls-key")
    if own.people_token_file is not None:
        _secret(own.people_token_file)
    is_named = resolved.sources["cluster"].kind != "default"
    try:
        api = connect(None if own.kubeconfig is None else str(own.kubeconfig))
    except NoClusterError as error:
        raise errors.UsageError(str(error)) from None
    controller = Controller(
        api,
        ControllerConfig(
            own.listen.host,
            own.listen.port,
            own.certificate,
            own.key,
            cluster=config.cluster if is_named else "",
            namespace=own.namespace,
            identity=config.node,
            policies=_policies(own.policies),
            people=lambda: _people(config),
            identities=_identities(own.agent_tokens),
            version=overhop.__version__,
        ),
    )
    with ExitStack() as stack:
        stack.callback(api.close)
        if config.metrics.listen is not None:
            where = config.metrics.listen
            leads = lambda: controller.election.is_leader  # noqa: E731  short
            stack.callback(serve_metrics(where.host, where.port, controller.facts, leads))
        controller.run()
    if as_json:
        output.show_json(dict(controller.facts()))
    return errors.DONE


def _people(config: Config) -> str:
    """Read each time: a Secret may be replaced."""
    file = config.controller.people_token_file
    try:
        return "" if file is None else _secret(file)
    except errors.UsageError:
        return ""


def _secret(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(_MAX_SECRET_BYTES).decode("ascii").strip()
    except OSError as error:
        raise errors.UsageError(f"token file {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise errors.UsageError(f"token file {file}: it is no token") from None


def _identities(file: Path | None) -> "Identities | None":
    from dispatcher.identity import TokenFile

    if file is None:
        return None
    try:
        return TokenFile(file.read_text("ascii"))
    except OSError as error:
        raise errors.UsageError(f"--agent-tokens {file}: {error.strerror}") from None
    except ValueError as error:
        raise errors.UsageError(f"--agent-tokens {file}: {error}") from None


def _policies(file: Path | None) -> "Policies":
    from dispatcher.policy import Policies, PolicyError, load_policies

    if file is None:
        return Policies()
    try:
        return load_policies(file)
    except PolicyError as error:
        raise ConfigError(error.problems) from None
