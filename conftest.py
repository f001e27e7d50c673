"""Fixtures for all tests: the cast (owner, operator, admin), an empty Redis, a client."""

from typing import Any

import pytest
from django.test import Client
from redis import Redis

from accounts.models import User
from accounts.revocation import copy
from accounts.roles import Role
from accounts.tokens import Device, TokenPair, issue_tokens
from lucid_gateway.redis_access import breaker, redis_client

PASSWORD = "Correct-Horse-7"  # noqa: S105  # of the cast


@pytest.fixture(autouse=True)
def empty_redis() -> Redis:
    """Each test starts with an empty Redis and a closed breaker."""
    redis = redis_client()
    redis.flushall()
    breaker._blocked_until = 0.0
    copy.suspect = False
    return redis


def make_user(name: str, role: Role) -> User:
    return User.objects.create_user(f"{name}@example.org", name, PASSWORD, role=role)


@pytest.fixture
def owner(db: None) -> User:
    """A plain user."""
    return make_user("owner", Role.USER)


@pytest.fixture
def node_operator(db: None) -> User:
    """A user who may write to the chain."""
    return make_user("node-operator", Role.NODE_OPERATOR)


@pytest.fixture
def super_admin(db: None) -> User:
    """A user who may do everything."""
    return make_user("super-admin", Role.SUPER_ADMIN)


@pytest.fixture
def tokens(owner: User) -> TokenPair:
    """The owner's tokens, as from a login."""
    return issue_tokens(owner, device=Device("192.0.2.1", "pytest"))


class ApiClient(Client):
    """Django's client, speaking JSON."""

    def send(self, method: str, path: str, data: Any = None, token: str | None = None, **extra: Any) -> Any:
        """Send a request below /api/v1 and return the response."""
        headers = extra.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        body = {"data": data, "content_type": "application/json"} if data is not None else {}
        return getattr(self, method)(f"/api/v1{path}", headers=headers, **body, **extra)


@pytest.fixture
def api() -> ApiClient:
    """A client of the API, in this process."""
    return ApiClient(raise_request_exception=False, HTTP_HOST="testserver")


def error_code(response: Any) -> str:
    """Return the code of an error answer, after checking that it is the envelope and nothing else."""
    body = response.json()
    assert response["Content-Type"] == "application/json"
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details", "request_id", "timestamp", "service", "version"}
    assert body["error"]["request_id"] == response["X-Request-ID"]
    code: str = body["error"]["code"]
    return code.removeprefix("LUCID_ERR_")
