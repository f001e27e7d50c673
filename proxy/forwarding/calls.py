"""Calls that the gateway makes itself, for its own records: small JSON requests to a cluster, with its breaker."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from lucid_gateway.kernel import metrics
from lucid_gateway.policy.errors import BadUpstreamAnswer, GatewayError
from lucid_gateway.policy.routes import Timeouts
from proxy.choosing.balancer import choose, no_instance
from proxy.choosing.bulkhead import bulkhead_of
from proxy.choosing.closures import refuse_if_closed
from proxy.choosing.instances import Attempt, InstanceState
from proxy.clusters import Cluster, cluster_named
from proxy.connection.exchange import exchange, head_of
from proxy.connection.headers import Identity, identity_headers
from proxy.connection.pool import pool_for
from proxy.connection.signature import signature

MAX_ANSWER = 1024 * 1024
TIMEOUTS = Timeouts(connect=2.0, read=10.0, total=15.0)


@dataclass(frozen=True)
class CallAnswer:
    """A cluster's answer: its status, and its body if that is JSON, else None."""

    status: int
    data: Any

    @property
    def succeeded(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status <= 299


def call(
    cluster: str, method: str, target: str, *, caller: Identity, request_id: str, data: Any = None,
    headers: Mapping[str, str] | None = None, timeouts: Timeouts = TIMEOUTS,
) -> CallAnswer:  # fmt: skip
    """Send one request to an instance of the cluster, on behalf of the caller, and read its whole answer.

    It is sent once. Raises ClusterInMaintenance, CircuitOpen, ServiceUnavailable, UpstreamUnreachable, UpstreamTimeout
    or BadUpstreamAnswer, the last also for an answer over 1 MiB.
    """
    refuse_if_closed(cluster)
    body = b"" if data is None else json.dumps(data).encode()
    fields = call_fields(caller, request_id, method, target, body) | dict(headers or {})
    with bulkhead_of(cluster).place():
        attempt = begin(cluster_named(cluster))
        try:
            with attempt:
                answer = ask(attempt, method, target, fields, body=body, timeouts=timeouts)
        except (OSError, GatewayError) as error:
            metrics.OWN_CALLS_FAILED.labels(cluster, "call").inc()
            if isinstance(error, GatewayError):
                raise
            raise BadUpstreamAnswer(details={"reason": "the connection broke off"}) from error
        finally:
            attempt.end()
    if answer.status >= 500:
        metrics.OWN_CALLS_FAILED.labels(cluster, "call").inc()
    return answer


def ask(
    attempt: Attempt, method: str, target: str, fields: Mapping[str, str], *, body: bytes, timeouts: Timeouts
) -> CallAnswer:
    """Ask one instance and return its whole answer; raises as `call`, and OSError."""
    instance = attempt.state.instance
    head = head_of(method, target, [("host", instance.authority), *fields.items()])
    pool = pool_for(instance)
    with pool.take(timeouts) as connection:
        answer = exchange(connection, method, head, [body], timeouts=timeouts)
        attempt.answered(answer.status)
        received = bytearray()
        for piece in connection.read_body():
            received += piece
            if len(received) > MAX_ANSWER:
                raise BadUpstreamAnswer(details={"reason": "the answer is too large"})
    pool.give_back(connection)
    return CallAnswer(answer.status, json_or_none(bytes(received)))


def begin(cluster: Cluster) -> Attempt:
    """Return the attempt at an instance; raise CircuitOpen or ClusterInMaintenance if none may be asked."""
    tried: list[InstanceState] = []
    while state := choose(cluster, tried):
        if attempt := state.begin():
            return attempt
        tried.append(state)  # another worker probes it
    raise no_instance(cluster)


def call_fields(caller: Identity, request_id: str, method: str, target: str, body: bytes) -> dict[str, str]:
    """Return what a cluster is told of the caller and of the body."""
    fields = dict(identity_headers(caller, request_id))
    if secret := settings.ENV.IDENTITY_SIGNING_SECRET:
        fields["x-gateway-signature"] = signature(secret, method, target, fields)
    if body or method in ("POST", "PUT", "PATCH"):
        fields |= {"content-type": "application/json", "content-length": str(len(body))}
    return fields


def json_or_none(body: bytes) -> Any:
    """Return the JSON value, None if it is none."""
    try:
        return json.loads(body)
    except ValueError:
        return None
