"""What the gateway refuses, no client gets past the edge; and what both forward, clusters get alike."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tests.edge.conftest import Stage
from proxy.tests.http_grammar import FIELDS, METHODS, TARGETS, VERSIONS
from testing.gateway import running_gateway
from testing.http.client import RawClient
from testing.http.cluster import RawCluster
from testing.http.messages import Cut, Ended, Message

# nginx refuses more, or with another status: too long or malformed lines, versions, methods, transfer codings. A line
# without a version gets an answer in HTTP/0.9, which has no status.
REFUSED_BY_NGINX = frozenset({0, 400, 405, 414, 417, 431, 501, 505})
# The gateway makes these for each request, or they differ because nginx writes them.
OF_EACH_REQUEST = frozenset({"x-request-id", "traceparent", "host", "x-forwarded-host", "content-length"})


@dataclass
class Planes:
    """A gateway behind its edge, and one without; each has its own clusters."""

    edge: Stage
    gateway: Stage


@pytest.fixture(scope="module")
def planes() -> Iterator[Planes]:
    with RawCluster() as first, RawCluster() as second:
        urls = [{"TRON_PAYMENT_URL": cluster.url, "BLOCKCHAIN_CORE_URL": cluster.url} for cluster in (first, second)]
        settings = {"RATE_LIMIT_ENABLED": "false", "ALLOWED_HOSTS": "127.0.0.1"}
        with (
            running_gateway(edge=True, **urls[0], **settings) as behind,
            running_gateway(edge=False, **urls[1], **settings) as alone,
        ):
            edge = Stage(behind, first, first, behind.issue_token("demo@lucid.test"))
            yield Planes(edge, Stage(alone, second, second, alone.issue_token("demo@lucid.test")))


@pytest.fixture(autouse=True)
def warm(planes: Planes) -> None:
    planes.edge.gateway.warm(planes.edge.token, "/wallets")


def send(stage: Stage, request: bytes) -> tuple[int, list[Message]]:
    """Send the request; return the status of the answer, 0 without one, and what the cluster got."""
    stage.wallets.requests, stage.wallets.broken = [], []
    with RawClient(stage.gateway.port) as client:
        client.send(request.replace(b"@TOKEN@", stage.token.encode()))
        try:
            status = client.read_answer(request.partition(b" ")[0].decode("latin-1")).status
        except (Cut, Ended):
            status = 0
    return status, stage.wallets.requests


def told(request: Message) -> tuple[str, bytes, list[tuple[str, str]]]:
    """Return what the cluster learned that does not differ by request."""
    fields = [(name.lower(), value) for name, value in request.fields]
    own = {"x-user-id"}  # the databases of the two gateways have users of their own
    # nginx drops fields with a dot in their name.
    left_out = OF_EACH_REQUEST | own | {"x.dot"}
    return request.start, request.body, sorted(one for one in fields if one[0] not in left_out)


def request_of(method: bytes, target: bytes, version: bytes, fields: list[bytes], body: bytes) -> bytes:
    length = [b"Content-Length: %d" % len(body)] if body else []
    line = method + b" " + target + b" " + version
    return b"\r\n".join([line, b"Host: 127.0.0.1", b"Authorization: Bearer @TOKEN@", *fields, *length, b"", body])


REQUESTS = st.builds(
    request_of, METHODS, TARGETS, VERSIONS, st.lists(FIELDS, max_size=4), st.sampled_from([b"", b"", b"12345"])
)


@given(REQUESTS)
def test_the_edge_forwards_nothing_that_the_gateway_refuses(planes: Planes, request_bytes: bytes) -> None:
    status, forwarded = send(planes.gateway, request_bytes)
    at_edge, forwarded_by_edge = send(planes.edge, request_bytes)

    if at_edge in REFUSED_BY_NGINX and not forwarded_by_edge:
        return
    assert at_edge == status
    assert [told(one) for one in forwarded_by_edge] == [told(one) for one in forwarded]
