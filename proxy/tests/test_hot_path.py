"""A forwarded request with a valid access token costs no database query, one round trip to Redis, and no garbage
collection.
"""

import gc
from collections.abc import Iterator

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings
from rest_framework.views import APIView

from accounts.tokens.issuing import TokenPair
from accounts.tokens.revocation.rebuild import rebuild
from conftest import ApiClient, error_code
from lucid_gateway.kernel.record import RequestRecord
from lucid_gateway.kernel.redis.server import MAX_CONNECTIONS
from proxy.clusters import cluster_named, configured
from proxy.connection.pool import pool_for
from proxy.connection.upstream import Answer
from testing.http.cluster import RawCluster
from testing.redis_monitor import watched_redis

OF_A_REQUEST = (RequestRecord, HttpRequest, HttpResponseBase, APIView, Answer)


@pytest.fixture
def warm(api: ApiClient, tokens: TokenPair) -> ApiClient:
    """A client after its first requests: connections to Redis are open, the script and the revocations are loaded."""
    rebuild()
    for _ in range(MAX_CONNECTIONS):
        api.send("get", "/chain/info", token=tokens.access)
    return api


@pytest.fixture
def cluster(raw_cluster: RawCluster, settings: Settings) -> Iterator[RawCluster]:
    """The cluster blockchain_core of this process."""
    settings.ENV = settings.ENV.model_copy(update={"BLOCKCHAIN_CORE_URL": (raw_cluster.url,)})
    configured.cache_clear()
    yield raw_cluster
    for idle in pool_for(cluster_named("blockchain_core").instances[0]).idle:
        idle.close()
    configured.cache_clear()


def serve(token: str) -> bytes:
    """Serve a request as gunicorn does; Django's test client would keep the request and its answer."""
    headers = {"Host": "testserver", "Authorization": f"Bearer {token}"}
    request = RequestFactory().get("/api/v1/chain/info", headers=headers)
    answer = WSGIHandler()(request.environ, lambda *_: None)
    body = b"".join(answer)
    answer.close()
    return body


def unreachable() -> list[object]:
    """Return the objects that only garbage collection would free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def test_a_proxied_request_makes_no_database_query(warm: ApiClient, tokens: TokenPair) -> None:
    with CaptureQueriesContext(connection) as queries:
        response = warm.send("get", "/chain/info", token=tokens.access)

    assert error_code(response) == "5005"  # no instance listens, so the request got as far as the cluster
    assert len(queries) == 0


def test_a_proxied_request_makes_one_round_trip_to_redis(warm: ApiClient, tokens: TokenPair) -> None:
    with watched_redis() as commands:
        warm.send("get", "/chain/blocks", token=tokens.access)

    assert [command.split()[0] for command in commands] == ["EVALSHA"]


def test_a_proxied_request_is_freed_without_garbage_collection(
    warm: ApiClient, tokens: TokenPair, cluster: RawCluster
) -> None:
    gc.collect()
    gc.disable()
    try:
        served = [serve(tokens.access) for _ in range(2)]  # the second one replaces the first one's answer
        left = [type(one) for one in unreachable() if isinstance(one, OF_A_REQUEST)]
    finally:
        gc.enable()

    assert served == [b"ok", b"ok"]
    assert len(cluster.requests) == 2
    assert left == []
