"""Fixtures for all tests: users of several roles, an empty Redis and a client."""

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import hypothesis
import pytest
from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.contenttypes.management import create_contenttypes
from django.contrib.contenttypes.models import ContentType
from django.db.models.signals import post_migrate
from django.test import Client
from hypothesis.internal.conjecture import providers
from playwright.sync_api import Browser, Page
from redis import Redis
from redis.client import Pipeline

from accounts.api_keys import known_keys
from accounts.authentication import verified_tokens
from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.tokens.key_material import key_material
from accounts.tokens.keyring import Keyring, KeyringEntry, keyring_cache
from accounts.tokens.revocation.cache import cache_on
from accounts.tokens.revocation.doubts import doubts
from accounts.tokens.revocation.gates import late_revocations
from accounts.tokens.revocation.publishing import publisher
from accounts.tokens.signing_keys import bootstrap_kid
from demo.launch import running_clusters
from lucid_gateway import urls  # noqa: F401  # with which the pages of the admin are loaded
from lucid_gateway.console import health_strip
from lucid_gateway.console.alarms import finding as alarms
from lucid_gateway.figures import reading
from lucid_gateway.kernel.record import RequestRecord, current
from lucid_gateway.kernel.redis.access import breaker, redis_client, single_server
from lucid_gateway.policy.roles import Role
from proxy.choosing import closures as maintenance
from proxy.edge.exclusions import excluded_cache
from ratelimit import rules
from ratelimit.addresses.floods import floods
from ratelimit.engine import limiter
from testing.browser import running_browser
from testing.gateway import Gateway, clusters, running_gateway

# Examples have no time limit, because a busy machine is not a failure. The suite tries the same examples each time, so
# that only a change of the code can make it fail; `make fuzz` tries new ones.
hypothesis.settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "fuzz", hypothesis.settings.get_profile("suite"), derandomize=False, max_examples=5_000, print_blob=True
)
hypothesis.settings.load_profile("suite")

BACKGROUND = ("redis-probe", "revocation", "revocation-rebuild", "idempotency-release")  # names of threads
BACKGROUND_SECONDS = 10
PASSWORD = "Correct-Horse-7"  # noqa: S105  # of all users below


def pytest_configure() -> None:
    """Let Argon2 take two milliseconds in this process instead of a hundred; gateways take as long as in production."""
    settings.PASSWORD_HASHERS = ["testing.quick_hashes.QuickArgon2", *settings.PASSWORD_HASHERS[1:]]


def pytest_collection_finish() -> None:
    """Let Hypothesis use only the constants of modules that are already imported.

    Otherwise the examples of a test would depend on the tests that ran before it in its process.
    """
    constants = providers._get_local_constants()  # there is no setting for it
    providers._get_local_constants = lambda: constants


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Use SQLite in a file, as in production: threads wait for each other's locks, which they do not in memory."""
    if not settings.ON_MONGODB:
        settings.DATABASES["default"]["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None) -> None:
    """Skip Django's permissions and content types on MongoDB, which cannot roll back and is emptied after each test:
    creating these rows again would take longer than most tests, and no test needs them.
    """
    if settings.ON_MONGODB:
        post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions")
        post_migrate.disconnect(create_contenttypes)
        post_migrate.connect(forget_content_types)


def forget_content_types(**_: Any) -> None:
    """Drop the cached rows, which no longer exist; Django creates each again on demand."""
    ContentType.objects.clear_cache()


def end_background_work() -> None:
    """Wait for threads of an earlier test, which would otherwise write to the next test's Redis."""
    breaker.outage = None
    publisher.waiting = []
    for thread in threading.enumerate():
        if thread.name in BACKGROUND:
            thread.join(BACKGROUND_SECONDS)


@pytest.fixture(autouse=True)
def empty_redis() -> Redis:
    """Start each test with an empty Redis, a closed breaker, and no counts or caches of an earlier test."""
    end_background_work()
    redis = redis_client()
    redis.flushall()
    for cluster in clusters:
        cluster.empty()
    cache = cache_on(single_server)
    cache.trusted_generation, cache.next_rebuild_at = cache.suspected_generation, 0.0
    late_revocations.entries, doubts.since = {}, {}
    limiter.fallback.clear()
    alarms.remembered.forget()
    health_strip.health.forget()
    reading.history.known.clear()
    return redis


@pytest.fixture(autouse=True)
def ring() -> Iterator[Keyring]:
    """Give each test the keyring of a new installation, made from JWT_SECRET_KEY without a database query."""
    secret, algorithm = settings.ENV.JWT_SECRET_KEY, settings.ENV.JWT_ALGORITHM
    key = KeyringEntry(bootstrap_kid(secret), algorithm, key_material(secret, algorithm))
    keyring_cache.ring, keyring_cache.rows = Keyring(key, (key,)), [(key.kid, "active")]
    known_keys.clear()
    verified_tokens.clear()
    floods.clear()
    rules.rules_cache.current = rules.Rules()
    maintenance.closures_cache.current = maintenance.Closures()
    excluded_cache.current = frozenset()
    yield keyring_cache.ring
    keyring_cache.ring = None


@pytest.fixture
def frozen_minute(monkeypatch: pytest.MonkeyPatch) -> int:
    """Freeze the time of the limits 30 seconds before the end of a minute; return it in seconds since the epoch.

    It is the next minute, which does not end during the test by the real clocks either.
    """
    now, script = int(time.time()) // 60 * 60 + 90, limiter.script

    class AtThisTime:
        def __call__(self, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
            return script(keys, [*arguments[:2], now, *arguments[3:]])

        def add_to(self, pipeline: Pipeline, keys: Sequence[str], arguments: Sequence[Any]) -> None:
            script.add_to(pipeline, keys, [*arguments[:2], now, *arguments[3:]])

    monkeypatch.setattr(limiter, "script", AtThisTime())
    monkeypatch.setattr(limiter, "time", SimpleNamespace(time=lambda: now))
    return now


@cache
def password_hash() -> str:
    """Return the hash of PASSWORD."""
    return make_password(PASSWORD)


def make_user(name: str, role: Role) -> User:
    return User.objects.create(email=f"{name}@example.org", username=name, password=password_hash(), role=role)


@pytest.fixture
def owner(db: None) -> User:
    return make_user("owner", Role.USER)


@pytest.fixture
def node_operator(db: None) -> User:
    """A user who may write to the chain."""
    return make_user("node-operator", Role.NODE_OPERATOR)


@pytest.fixture
def admin(db: None) -> User:
    """A user with the role admin."""
    return make_user("admin", Role.ADMIN)


@pytest.fixture
def super_admin(db: None) -> User:
    return make_user("super-admin", Role.SUPER_ADMIN)


@pytest.fixture
def tokens(owner: User) -> TokenPair:
    """The owner's tokens, as from a login."""
    previous = current.set(RequestRecord(client_address="192.0.2.1", user_agent="pytest"))
    try:
        return issue_tokens(owner)
    finally:
        current.reset(previous)


@pytest.fixture(scope="session")
def gateway() -> Iterator[Gateway]:
    """A real gateway in front of the demo clusters. It shares the test run's Redis, which each test empties."""
    with running_clusters() as clusters:
        addresses = {
            "BLOCKCHAIN_CORE_URL": clusters.blockchain_core,
            "SESSION_MANAGEMENT_URL": clusters.session_management,
            "TRON_PAYMENT_URL": clusters.tron_payment,
        }
        with running_gateway(**addresses, API_DOCS_ENABLED="true", HEALTH_CHECK_INTERVAL="1") as running:
            yield running


@pytest.fixture(scope="session")
def gateway_token(gateway: Gateway) -> str:
    """An access token for a user of `gateway` whose password no test resets."""
    return gateway.issue_token("operator@lucid.test")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser; the tests are skipped where there is none.

    It ends with its module, because no test after it in this process could use the database. For the same reason a
    module with a browser has no tests that use the database: its rows are made in the gateway that the browser visits.
    """
    # The shell has no windows of its own to draw, and takes a third of the processor time.
    binary = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if binary is None:
        pytest.skip("chromium is not installed")
    with running_browser(binary) as running:
        yield running


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """An empty tab, without cookies."""
    with browser.new_page() as page:
        yield page


class ApiClient(Client):
    """Django's test client, which sends JSON."""

    def send(self, method: str, path: str, data: Any = None, token: str | None = None, **extra: Any) -> Any:
        """Send a request below /api/v1 and return the response."""
        headers = extra.pop("headers", {}) | ({"Authorization": f"Bearer {token}"} if token else {})
        body = {"data": data, "content_type": "application/json"} if data is not None else {}
        return getattr(self, method)(f"/api/v1{path}", headers=headers, **body, **extra)


@pytest.fixture
def api() -> ApiClient:
    return ApiClient(raise_request_exception=False, HTTP_HOST="testserver")


def error_code(response: Any) -> str:
    """Return the code of an error response, after checking that its body is exactly the envelope."""
    body = response.json()
    assert response["Content-Type"] == "application/json"
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details", "request_id", "timestamp", "service", "version"}
    assert body["error"]["request_id"] == response["X-Request-ID"]
    code: str = body["error"]["code"]
    return code.removeprefix("LUCID_ERR_")
