"""Clients and tokens of several users, a session-management cluster, and sessions with chunks."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from conftest import make_user
from lucid_gateway.policy.roles import Role
from proxy.clusters import cluster_named, configured
from proxy.connection.pool import pool_for
from sessions_api.models import Chunk, Session
from sessions_api.tests.scenarios import SessionsClient
from testing.http.cluster import RawCluster


@pytest.fixture
def as_owner(owner: User) -> SessionsClient:
    return SessionsClient(issue_tokens(owner).access)


@pytest.fixture
def outsider(db: None) -> User:
    """Another plain user."""
    return make_user("outsider", Role.USER)


@pytest.fixture
def as_outsider(outsider: User) -> SessionsClient:
    return SessionsClient(issue_tokens(outsider).access)


@pytest.fixture
def as_staff(super_admin: User) -> SessionsClient:
    return SessionsClient(issue_tokens(super_admin).access)


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


@pytest.fixture
def token(owner: User) -> str:
    return issue_tokens(owner).access


@pytest.fixture
def stranger_token(db: None) -> str:
    """Another user's access token."""
    return issue_tokens(make_user("stranger", Role.USER)).access


@pytest.fixture
def staff_token(db: None) -> str:
    """An admin's access token."""
    return issue_tokens(make_user("looking-on", Role.ADMIN)).access


def a_session(user: User, *sizes: int, status: str = Session.Status.COMPLETED, **fields: Any) -> Session:
    """Return a session with a recorded chunk of each size; the hash is that of the index in decimal digits."""
    session = Session.objects.create(user=user, name="a session", status=status, completed_at=timezone.now(), **fields)
    for index, size in enumerate(sizes):
        add_chunk(session, index, size)
    return session


def add_chunk(session: Session, index: int, size: int = 1, **fields: Any) -> Chunk:
    """Return a recorded chunk of the session."""
    digest = hashlib.sha256(str(index).encode()).hexdigest()
    fields = {"state": Chunk.State.RECORDED, "hash": digest} | fields
    return Chunk.objects.create(session=session, index=index, size=size, **fields)
