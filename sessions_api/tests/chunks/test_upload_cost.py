"""The number of database statements per upload: four, and at most three for a repeat."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from accounts.models import User
from accounts.tokens.issuing import TokenPair
from conftest import ApiClient
from proxy.clusters import cluster_named, configured
from proxy.connection.pool import pool_for
from sessions_api.models import Session
from sessions_api.tests.chunks.conftest import created
from testing.http.cluster import RawCluster


@pytest.fixture
def cluster(settings: Settings) -> Iterator[RawCluster]:
    """The session-management cluster of this process."""
    with RawCluster() as cluster:
        cluster.behaviour = created
        settings.ENV = settings.ENV.model_copy(update={"SESSION_MANAGEMENT_URL": (cluster.url,)})
        configured.cache_clear()
        yield cluster
        for idle in pool_for(cluster_named("session_management").instances[0]).idle:
            idle.close()
    configured.cache_clear()


def test_an_upload_costs_four_statements_and_a_repeat_no_more_than_three(
    api: ApiClient, owner: User, tokens: TokenPair, cluster: RawCluster
) -> None:
    session = Session.objects.create(user=owner, name="a session")

    def upload() -> tuple[int, int]:
        extra: dict[str, Any] = {"content_type": "application/octet-stream", "data": b"abc"}
        headers = {"Authorization": f"Bearer {tokens.access}", "X-Chunk-Index": "0"}
        with CaptureQueriesContext(connection) as queries:
            response = api.post(f"/api/v1/sessions/{session.pk}/chunks", headers=headers, **extra)
        return response.status_code, len([query for query in queries if "sessions_api_" in query["sql"]])

    first, (status, repeat) = upload(), upload()
    assert (first, status) == ((201, 4), 200)
    assert repeat <= 3  # not every database's log has the refused insert
    assert cluster.request.body == b"abc"
