"""The error codes for invalid input to the session endpoints."""

from typing import Any

import pytest

from accounts.models import User
from conftest import error_code
from sessions_api.models import Session
from sessions_api.models.sessions import GIB, MIB
from sessions_api.tests.scenarios import SessionsClient, new_session

DEEP: Any = 1
for _ in range(31):
    DEEP = [DEEP]

BAD_FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "1002"),
    ({"name": "   "}, "1002"),
    ({"name": None}, "1002"),
    ({"name": "x" * 256}, "1004"),
    ({"name": ["x"]}, "1003"),
    ({"name": True}, "1003"),
    ({"name": "a\0b"}, "1003"),
    ({"description": "x" * 1001}, "1004"),
    ({"description": None}, "1002"),
    ({"description": {}}, "1003"),
    ({"max_size_bytes": MIB - 1}, "1004"),
    ({"max_size_bytes": 100 * GIB + 1}, "1004"),
    ({"max_size_bytes": -1}, "1004"),
    ({"max_size_bytes": 10**40}, "1004"),
    ({"max_size_bytes": 2.5 * MIB + 0.5}, "1003"),
    ({"max_size_bytes": "much"}, "1003"),
    ({"max_size_bytes": True}, "1003"),
    ({"max_size_bytes": []}, "1003"),
    ({"max_size_bytes": None}, "1002"),
    ({"trust_policy_id": "abc"}, "1005"),
    ({"trust_policy_id": 5}, "1005"),
    ({"trust_policy_id": True}, "1005"),
    ({"trust_policy_id": {}}, "1005"),
    ({"trust_policy_id": []}, "1005"),
    ({"metadata": []}, "1003"),
    ({"metadata": "{}"}, "1003"),
    ({"metadata": None}, "1002"),
    ({"metadata": {"k": "x" * 16 * 1024}}, "1004"),
    ({"metadata": {"k": "é" * 8 * 1024}}, "1004"),
    ({"metadata": {str(n): n for n in range(101)}}, "1004"),
    ({"metadata": {"a": [{str(n): n for n in range(100)}]}}, "1004"),
    ({"metadata": {"k": 2**63}}, "1004"),
    ({"metadata": {"k": [{"j": -(2**63) - 1}]}}, "1004"),
    ({"metadata": {"a\0b": 1}}, "1003"),
    ({"metadata": {"deep": DEEP}}, "1009"),
    ({"name": "x" * 256, "max_size_bytes": "much"}, "1001"),
]
GOOD_FIELDS: list[dict[str, Any]] = [
    {"name": "x"},
    {"name": "x" * 255},
    {"name": "🎥" * 255},
    {"description": ""},
    {"description": "x" * 1000},
    {"max_size_bytes": MIB},
    {"max_size_bytes": 100 * GIB},
    {"trust_policy_id": None},
    {"metadata": {str(n): n for n in range(100)}},
    {"metadata": {"k": "x" * (16 * 1024 - 8)}},
    {"metadata": {"k": [2**63 - 1, -(2**63) + 1, 1e308, False, "\0"]}},
    {"metadata": {"deep": DEEP[0][0]}},
    {"unknown": 1},
]
BAD_QUERIES = [
    ("status=open", "1003"),
    ("sort=size_bytes", "1003"),
    ("page=0", "1004"),
    ("page=x", "1003"),
    ("page=99999999999999999999", "1004"),
    ("limit=0", "1004"),
    ("limit=101", "1004"),
    ("trust_policy_id=5", "1005"),
    ("user_id=me", "1005"),
    ("name=%00", "1003"),
    ("name=" + "x" * 256, "1004"),
    ("created_since=yesterday", "1008"),
    ("created_until=2026-13-01T00:00:00Z", "1008"),
    ("created_until=9999-12-31T23:59:59-23:59", "1008"),
    ("status=open&limit=0", "1001"),
]
TOO_BIG = b'{"name": "' + b"x" * 1024 * 1024 + b'"}'
BAD_BODIES = [
    (b"", 422, "1002"),
    (b"[]", 400, "1009"),
    (b"{", 400, "1009"),
    (b'{"name": "a", "name": "b"}', 400, "1009"),
    (b'{"name": "\\ud800"}', 400, "1009"),
    (b'{"metadata": {"a": NaN}}', 400, "1009"),
    (TOO_BIG, 413, "1010"),
]


@pytest.mark.parametrize("method", ["post", "put", "patch"])
def test_invalid_fields_are_refused_with_their_code_and_change_nothing(
    as_owner: SessionsClient, owner: User, method: str
) -> None:
    session = new_session(owner)

    found = []
    for fields, _ in BAD_FIELDS:
        answer = as_owner.request(method, "" if method == "post" else session, {"name": "A session"} | fields)
        found.append((answer.status_code, error_code(answer)))

    expected = [(400 if code == "1009" else 422, code) for _, code in BAD_FIELDS]
    assert list(zip(BAD_FIELDS, found, strict=True)) == list(zip(BAD_FIELDS, expected, strict=True))
    assert list(Session.objects.values_list("pk", "version")) == [(session.pk, 1)]


def test_values_at_the_limits_are_accepted(as_owner: SessionsClient) -> None:
    for fields in GOOD_FIELDS:
        created = as_owner.create(**fields)
        assert created.status_code == 201, (fields, created.json())

        changed = as_owner.request("patch", session_id := created.json()["session_id"], fields)
        assert changed.status_code == 200, (fields, changed.json())

        read = as_owner.request("get", session_id).json()
        assert {name: read[name] for name in fields if name in read} == {n: v for n, v in fields.items() if n in read}


def test_invalid_queries_are_refused_with_their_code(as_owner: SessionsClient) -> None:
    answers = {query: as_owner.api.send("get", f"/sessions?{query}", token=as_owner.token) for query, _ in BAD_QUERIES}

    found = {query: (answer.status_code, error_code(answer)) for query, answer in answers.items()}
    assert found == {query: (422, code) for query, code in BAD_QUERIES}


def test_extreme_dates_match_all_or_nothing(as_owner: SessionsClient, owner: User) -> None:
    new_session(owner)

    assert as_owner.names(created_since="0001-01-01T00:00:00Z") == ["A session"]
    assert as_owner.names(created_since="9999-12-31T00:00:00Z") == []
    assert as_owner.names(page=1_000_000) == []


@pytest.mark.parametrize(("body", "status", "code"), BAD_BODIES, ids=lambda value: str(value)[:30])
def test_invalid_bodies_are_refused(as_owner: SessionsClient, body: bytes, status: int, code: str) -> None:
    answer = as_owner.api.send("post", "/sessions", body, token=as_owner.token)

    assert (answer.status_code, error_code(answer)) == (status, code)
    assert not Session.objects.exists()


@pytest.mark.parametrize("status", ["open", "", None, 5, [], {}, "Active"])
def test_an_unknown_status_is_refused(as_owner: SessionsClient, owner: User, status: Any) -> None:
    answer = as_owner.request("patch", new_session(owner), {"status": status})

    assert (answer.status_code, error_code(answer)) == (422, "1002" if status is None else "1003")
