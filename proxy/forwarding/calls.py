"""The gateway's own requests to a cluster: small, with JSON bodies, subject to maintenance, bulkhead and breakers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from lucid_gateway.kernel import metrics
from lucid_gateway.policy.errors import BadUpstreamAnswer, GatewayError
from lucid_gateway.policy.routes import Timeouts
from proxy.choosing.balancer import choose, no_instance_error
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
    """A cluster's answer: its status, and its parsed JSON body, or None if the body is not JSON."""

    status: int
    data: Any

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status <= 299


def call(
    cluster: str, method: str, target: str, *, caller: Identity, request_id: str, data: Any = None,
    headers: Mapping[str, str] | None = None, timeouts: Timeouts = TIMEOUTS,
) -> CallAnswer:  # fmt: skip
    """Send one request to the cluster on behalf of the caller, without retries, and return the whole answer.

    Raises ClusterInMaintenance, CircuitOpen, ServiceUnavailable, UpstreamUnreachable, UpstreamTimeout or
    BadUpstreamAnswer, which also refuses an answer over 1 MiB.
    """
    refuse_if_closed(cluster)
    body = b"" if data is None else json.dumps(data).encode()
    fields = call_fields(caller, request_id, method, target, body) | dict(headers or {})
    with bulkhead_of(cluster).place():
        attempt = begin_attempt(cluster_named(cluster))
        try:
            with attempt:
                answer = call_instance(attempt, method, target, fields, body=body, timeouts=timeouts)
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


def call_instance(
    attempt: Attempt, method: str, target: str, fields: Mapping[str, str], *, body: bytes, timeouts: Timeouts
) -> CallAnswer:
    """Send the request to one instance and return its whole answer; raise what `call` raises, or OSError."""
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
    return CallAnswer(answer.status, parse_json(bytes(received)))


def begin_attempt(cluster: Cluster) -> Attempt:
    """Choose an instance and start an attempt; raise CircuitOpen or ClusterInMaintenance if none is available."""
    tried: list[InstanceState] = []
    while state := choose(cluster, tried):
        if attempt := state.begin():
            return attempt
        tried.append(state)  # another worker is probing it
    raise no_instance_error(cluster)


def call_fields(caller: Identity, request_id: str, method: str, target: str, body: bytes) -> dict[str, str]:
    """Return the header fields that identify the caller (signed if a secret is set) and describe the body."""
    fields = dict(identity_headers(caller, request_id))
    if secret := settings.ENV.IDENTITY_SIGNING_SECRET:
        fields["x-gateway-signature"] = signature(secret, method, target, fields)
    if body or method in ("POST", "PUT", "PATCH"):
        fields |= {"content-type": "application/json", "content-length": str(len(body))}
    return fields


def parse_json(body: bytes) -> Any:
    """Return the JSON value, or None for invalid JSON."""
    try:
        return json.loads(body)
    except ValueError:
        return None
