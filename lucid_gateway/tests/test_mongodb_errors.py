"""MongoDB that fails: each of the driver's errors is one of Django's, and an answer 503.

The server is real, and fails as it is told (failCommand).
"""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from django.db import DatabaseError, IntegrityError
from django.db.utils import load_backend
from pymongo.errors import PyMongoError
from pytest_django import DjangoDbBlocker

from lucid_gateway.settings import mongodb
from testing.gateway import Gateway
from testing.servers import failing, free_port, running_mongod

ROWS = 300  # more than MongoDB sends at once
NO_MAJORITY = {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
FAULTS: dict[str, dict[str, Any]] = {
    "no primary": {"errorCode": 10107},
    "stepped down meanwhile": {"errorCode": 11602},
    "too slow": {"errorCode": 50},
    "disk full": {"errorCode": 14031},
    "not authorized": {"errorCode": 13},
    "connection cut": {"closeConnection": True},
}
UNSURE: dict[str, dict[str, Any]] = {
    "no majority": NO_MAJORITY,
    "stepped down before the majority had it": {"writeConcernError": {"code": 11602, "errmsg": "stepped down"}},
}
WRITES: dict[str, Callable[[Any], object]] = {
    "insert": lambda rows: rows.insert_many([{}, {}]),
    "update": lambda rows: rows.update_many({}, [{"$set": {"n": 1}}]),
    "delete": lambda rows: rows.delete_many({"n": "none"}),
}


def faults(*kinds: dict[str, dict[str, Any]]) -> pytest.MarkDecorator:
    named = {name: how for kind in kinds for name, how in kind.items()}
    return pytest.mark.parametrize("how", named.values(), ids=named.keys())


@pytest.fixture(scope="module")
def uri(django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A MongoDB server for these tests, whatever the database of the test run is."""
    with running_mongod() as uri, django_db_blocker.unblock():
        yield uri


def database_at(uri: str, **options: Any) -> Any:
    """Return a connection with the gateway's settings to another server."""
    defaults = {"USER": "", "PASSWORD": "", "PORT": "", "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": False,
                "AUTOCOMMIT": True, "ATOMIC_REQUESTS": False, "TIME_ZONE": None}  # fmt: skip
    chosen = mongodb()
    wrapper = load_backend(chosen["ENGINE"]).DatabaseWrapper
    options = chosen["OPTIONS"] | {"serverSelectionTimeoutMS": 500} | options
    return wrapper(defaults | chosen | {"HOST": uri, "OPTIONS": options}, alias=uuid.uuid4().hex)


@pytest.fixture
def database(uri: str) -> Iterator[Any]:
    """A new connection: after a failure, the driver would first wait until it finds the primary again."""
    database = database_at(uri)
    yield database
    database.close_pool()


@pytest.fixture
def rows(database: Any) -> Any:
    """A collection with some rows for one test."""
    rows = database.get_collection(uuid.uuid4().hex)
    rows.insert_many([{"_id": number} for number in range(ROWS)])
    return rows


@faults(FAULTS, UNSURE)
@pytest.mark.parametrize("command", WRITES)
def test_a_write_that_fails_is_a_database_error(uri: str, rows: Any, command: str, how: dict[str, Any]) -> None:
    with failing(uri, command, **how), pytest.raises(DatabaseError) as raised:
        WRITES[command](rows)
    assert type(raised.value) is DatabaseError
    assert isinstance(raised.value.__cause__, PyMongoError)


@faults(FAULTS)
def test_a_read_that_fails_is_a_database_error(uri: str, rows: Any, how: dict[str, Any]) -> None:
    with failing(uri, "aggregate", **how), pytest.raises(DatabaseError):
        rows.aggregate([])


@faults(FAULTS, {"cursor lost": {"errorCode": 43}})
@pytest.mark.parametrize("read_on", [list, lambda cursor: [cursor.next() for _ in range(ROWS)]], ids=["all", "next"])
def test_a_read_that_fails_halfway_is_a_database_error(
    uri: str, rows: Any, how: dict[str, Any], read_on: Callable[[Any], object]
) -> None:
    cursor = rows.aggregate([])
    with failing(uri, "getMore", **how), pytest.raises(DatabaseError):
        read_on(cursor)


@faults(FAULTS)
def test_a_failure_to_tell_the_time_is_a_database_error(uri: str, database: Any, how: dict[str, Any]) -> None:
    database.ensure_connection()
    with failing(uri, "hello", **how), pytest.raises(DatabaseError):
        database.server_time()


@faults(FAULTS)
def test_a_count_that_fails_is_a_database_error(uri: str, rows: Any, how: dict[str, Any]) -> None:
    with failing(uri, "count", **how), pytest.raises(DatabaseError):
        rows.estimated_document_count()


def test_a_read_that_does_not_fail_gives_all_rows(rows: Any) -> None:
    assert [row["_id"] for row in rows.aggregate([{"$sort": {"_id": 1}}])] == list(range(ROWS))
    with pytest.raises(StopIteration):
        rows.aggregate([{"$match": {"_id": -1}}]).next()


@pytest.mark.parametrize("documents", [[{"_id": 7}], [{"_id": "new"}, {"_id": 7}, {"_id": "newer"}]])
def test_a_key_that_exists_is_an_integrity_error(rows: Any, documents: list[dict[str, Any]]) -> None:
    with pytest.raises(IntegrityError):
        rows.insert_many(documents)


def test_a_key_that_exists_is_an_integrity_error_without_a_majority_too(uri: str, rows: Any) -> None:
    with failing(uri, "insert", **NO_MAJORITY), pytest.raises(IntegrityError):
        rows.insert_many([{"_id": 7}])


def test_an_update_to_a_value_that_exists_is_an_integrity_error(rows: Any) -> None:
    rows.create_index("name", unique=True, sparse=True)
    rows.update_many({"_id": 1}, {"$set": {"name": "taken"}})
    with pytest.raises(IntegrityError):
        rows.update_many({"_id": 2}, {"$set": {"name": "taken"}})


@pytest.mark.parametrize("use", [lambda database: database.ensure_connection(), lambda d: d.get_collection("rows")])
def test_an_unreachable_server_is_a_database_error(
    django_db_blocker: DjangoDbBlocker, use: Callable[[Any], object]
) -> None:
    database = database_at(f"mongodb://127.0.0.1:{free_port()}/")
    with django_db_blocker.unblock(), pytest.raises(DatabaseError):
        use(database)
    database.close_pool()


def test_writes_are_acknowledged_by_a_majority_and_journaled_in_bounded_time(rows: Any) -> None:
    concern = rows.write_concern.document
    assert (concern["w"], concern["j"]) == ("majority", True)
    assert 0 < concern["wtimeout"] <= 5000


def create_session(gateway: Gateway, token: str) -> tuple[int, str, bool]:
    """Return the status, the error code, and whether the answer has Retry-After."""
    headers = {"Authorization": f"Bearer {token}"}
    with requests.post(f"{gateway.url}/sessions", headers=headers, json={"name": "s"}, timeout=20) as response:
        code = response.json().get("error", {}).get("code", "")
        return response.status_code, code, "Retry-After" in response.headers


@pytest.mark.mongodb
@pytest.mark.usefixtures("db")
def test_a_session_that_no_majority_has_acknowledged_is_a_503(gateway: Gateway) -> None:
    token = gateway.issue_token("demo@lucid.test")
    with failing(gateway.env["MONGODB_URI"], "insert", **NO_MAJORITY):
        assert create_session(gateway, token) == (503, "LUCID_ERR_5002", True)
    assert create_session(gateway, token)[0] == 201
