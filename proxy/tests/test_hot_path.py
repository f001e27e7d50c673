"""A forwarded request with a valid access token costs no database query and one round trip to Redis."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.tokens.issuing import TokenPair
from accounts.tokens.revocation.rebuild import rebuild
from conftest import ApiClient, error_code
from lucid_gateway.kernel.redis.script import MAX_CONNECTIONS
from testing.redis_monitor import watched_redis


@pytest.fixture
def warm(api: ApiClient, tokens: TokenPair) -> ApiClient:
    """A client after its first requests: connections to Redis are open, the script and the revocations are loaded."""
    rebuild()
    for _ in range(MAX_CONNECTIONS):
        api.send("get", "/chain/info", token=tokens.access)
    return api


def test_a_proxied_request_makes_no_database_query(warm: ApiClient, tokens: TokenPair) -> None:
    with CaptureQueriesContext(connection) as queries:
        response = warm.send("get", "/chain/info", token=tokens.access)

    assert error_code(response) == "5005"  # no instance listens, so the request got as far as the cluster
    assert len(queries) == 0


def test_a_proxied_request_makes_one_round_trip_to_redis(warm: ApiClient, tokens: TokenPair) -> None:
    with watched_redis() as commands:
        warm.send("get", "/chain/blocks", token=tokens.access)

    assert [command.split()[0] for command in commands] == ["EVALSHA"]
