"""The cast of these tests, and a session-management cluster."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from accounts.models import User
from accounts.roles import Role
from accounts.tokens import issue_tokens
from conftest import make_user
from proxy.clusters import cluster_named, configured
from proxy.pool import pool_for
from proxy.tests.raw_cluster import RawCluster
from sessions_api.tests.acts import Sessions


@pytest.fixture
def mine(owner: User) -> Sessions:
    """The owner's requests."""
    return Sessions(issue_tokens(owner).access)


@pytest.fixture
def outsider(db: None) -> User:
    """Another plain user."""
    return make_user("outsider", Role.USER)


@pytest.fixture
def theirs(outsider: User) -> Sessions:
    """The outsider's requests."""
    return Sessions(issue_tokens(outsider).access)


@pytest.fixture
def staffs(super_admin: User) -> Sessions:
    """The requests of staff."""
    return Sessions(issue_tokens(super_admin).access)


@pytest.fixture
def cluster(settings: Settings) -> Iterator[RawCluster]:
    """The session-management cluster."""
    with RawCluster() as cluster:
        settings.ENV = settings.ENV.model_copy(update={"SESSION_MANAGEMENT_URL": (cluster.url,)})
        configured.cache_clear()
        yield cluster
        (instance,) = cluster_named("session_management").instances
        for connection in pool_for(instance).idle:
            connection.close()
        configured.cache_clear()
