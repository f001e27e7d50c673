"""The pytest plugin that gives the whole run its Redis, and with `--database mongodb` its MongoDB.

Loaded with `-p`, so that the environment is there before pytest-django reads the settings.
"""

import contextlib
import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from testing.gateway import PLANE, REDIS
from testing.servers import free_port, running_mongod, running_redis

servers = contextlib.ExitStack()
JWT_SECRET_KEY = "a-secret-for-tests-only-0123456789-abcdef"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--database", choices=["sqlite", "mongodb"], default="sqlite",
        help="what the data tests run on; with mongodb nothing but the data tests runs",
    )  # fmt: skip
    parser.addoption(
        "--plane", choices=["django", "edge"], default="django",
        help="what serves the clients of the gateways in tests; with edge only the tests of both planes run",
    )  # fmt: skip
    parser.addoption(
        "--redis", choices=["single", "cluster"], default="single",
        help="what each gateway gets that asks for no Redis of its own; a cluster refuses calls with keys of two slots",
    )  # fmt: skip
    parser.addoption("--restarts", type=int, default=1, help="rolling restarts in the test of those (make soak)")
    parser.addoption("--requests", type=int, default=0, help="requests that are sent meanwhile, at least")
    parser.addoption("--idle", type=int, default=500, help="idle connections at the edge (make soak-edge)")
    parser.addoption("--streams", type=int, default=200, help="event streams through the edge")
    parser.addoption("--minutes", type=float, default=0.1, help="how long the gateway behind the edge is away")


def environment(redis_url: str) -> dict[str, str]:
    """Return the settings of a test run."""
    return {
        "ENVIRONMENT": "test",
        "SSL_ENABLED": "false",
        "JWT_SECRET_KEY": JWT_SECRET_KEY,
        "SQLITE_PATH": "var/test.sqlite3",
        "REDIS_URL": redis_url,
        # A busy machine must not look like an outage of Redis; the tests of outages have the usual 0.3 seconds.
        "REDIS_TIMEOUT_SECONDS": "2",
        "BLOCKCHAIN_CORE_URL": f"http://127.0.0.1:{free_port()}",
        "SESSION_MANAGEMENT_URL": f"http://127.0.0.1:{free_port()}",
        "TRON_PAYMENT_URL": f"http://127.0.0.1:{free_port()}",
        "ALLOWED_HOSTS": "testserver,127.0.0.1,localhost",
        "CORS_ORIGINS": "https://app.example.org",
        "LOG_LEVEL": "WARNING",
        # The tests log in more often than anybody may; those of the limits run on gateways with the real ones.
        "RATE_LIMIT_LOGIN_ATTEMPT_REQUESTS_PER_MINUTE": "10000",
        # Most tests are about one request: nothing else is to reach a cluster, and faults of others do not close it.
        "CLUSTER_BREAKER_ENABLED": "false",
        "CLUSTER_HEALTH_CHECKS_ENABLED": "false",
    }


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Start the servers and set the environment, before anything of the project is imported."""
    for name in [name for name in os.environ if name.endswith("_URL") or name.startswith(("RATE_LIMIT_", "MONGODB_"))]:
        del os.environ[name]
    os.environ |= environment(servers.enter_context(running_redis()).url)
    os.environ[PLANE] = early_config.known_args_namespace.plane
    os.environ[REDIS] = early_config.known_args_namespace.redis
    if early_config.known_args_namespace.database == "mongodb":
        os.environ["MONGODB_URI"] = servers.enter_context(running_mongod())
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exclude what is loaded before the first test from garbage collection, which would walk it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """Stop the servers, after an interrupt, too."""
    servers.close()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip files without the mark that all tests of this run have, as reading all files takes ten seconds and more."""
    marks = {"quiet": config.option.markexpr == "quiet", "planes": config.getoption("--plane") == "edge"}
    if not collection_path.name.startswith("test_"):
        return None
    text = collection_path.read_text()
    return True if any(on and f"mark.{mark}" not in text for mark, on in marks.items()) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On MongoDB keep the tests that touch the database, as the others would only say the same again; on SQLite those
    that are not about MongoDB.
    """
    on_mongodb = config.getoption("--database") == "mongodb"
    at_edge = config.getoption("--plane") == "edge"
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        runs = needs_database(item) if on_mongodb else item.get_closest_marker("mongodb") is None
        runs = runs and (not at_edge or (has(item, "planes") and not has(item, "django_plane")))
        (kept if runs else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def has(item: pytest.Item, marker: str) -> bool:
    return item.get_closest_marker(marker) is not None


def needs_database(item: pytest.Item) -> bool:
    """Return whether the test works with the run's database."""
    fixtures = getattr(item, "fixturenames", ())
    return item.get_closest_marker("django_db") is not None or "db" in fixtures or "transactional_db" in fixtures
