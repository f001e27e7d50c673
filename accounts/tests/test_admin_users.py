"""GET /admin/users and POST /admin/users/{user_id}/lock, unlock, role and revoke-tokens."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tests.test_users import FIELDS
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.users.locks import FOREVER, lock_user
from accounts.users.profile import delete_account
from conftest import ApiClient, error_code, make_user
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.roles import Role

MANAGED = FIELDS | {"is_active", "locked_until", "lock_reason", "locked_by", "login_attempts", "deleted_at"}
REASON = {"reason": "stolen laptop"}


@pytest.fixture
def token(admin: User) -> str:
    """The admin's access token."""
    return issue_tokens(admin).access


@pytest.fixture
def super_token(super_admin: User) -> str:
    """The super admin's access token."""
    return issue_tokens(super_admin).access


def ask(api: ApiClient, token: str, **query: Any) -> Any:
    return api.send("get", "/admin/users", token=token, query_params=query)


def act(api: ApiClient, token: str, action: str, user_id: object, data: Any = None) -> Any:
    return api.send("post", f"/admin/users/{user_id}/{action}", {} if data is None else data, token=token)


def event_of(response: Any, kind: str) -> AuditEvent:
    """Return the one event of the type, after checking that it has the id of the request."""
    event = AuditEvent.objects.get(type=kind)
    assert (event.request_id, event.address) == (response["X-Request-ID"], "127.0.0.1")
    return event


# The list


def test_the_list_shows_the_fields_that_staff_need(api: ApiClient, owner: User, token: str) -> None:
    lock_user(owner, reason="stolen laptop", by="manage.py")

    response = ask(api, token)

    assert response.status_code == 200
    body = response.json()
    assert set(body) == {"users", "pagination"}
    assert {frozenset(row) for row in body["users"]} == {frozenset(MANAGED)}
    row = next(row for row in body["users"] if row["user_id"] == str(owner.pk))
    assert (row["lock_reason"], row["locked_by"], row["is_active"]) == ("stolen laptop", "manage.py", True)
    assert owner.password not in response.content.decode()


def test_a_deleted_user_is_listed_without_personal_data(api: ApiClient, owner: User, token: str) -> None:
    delete_account(owner)

    [row] = ask(api, token, is_active="false").json()["users"]
    assert row["user_id"] == str(owner.pk)
    assert row["username"].startswith("deleted-")
    assert row["deleted_at"] is not None


@pytest.fixture
def crowd(admin: User) -> None:
    """Users who differ in every filterable field; with the admin they are six."""
    now = timezone.now()
    rows: list[dict[str, Any]] = [
        {"username": "ada", "first_name": "Ada", "last_login": now - timedelta(hours=2)},
        {"username": "bob", "last_name": "O'Ada", "locked_until": FOREVER},
        {"username": "carol", "role": Role.NODE_OPERATOR, "is_active": False},
        {"username": "d_ve", "locked_until": now - timedelta(seconds=1), "last_login": now - timedelta(hours=1)},
        {"username": "erin", "email": "adamant@example.net"},
    ]
    for age, row in enumerate(rows):
        user = User.objects.create(**{"email": f"{row['username']}@example.org", **row})
        User.objects.filter(pk=user.pk).update(created_at=now - timedelta(days=age))
    User.objects.filter(pk=admin.pk).update(created_at=now - timedelta(days=9))


@pytest.mark.usefixtures("crowd")
def test_filters_select_the_matching_users(api: ApiClient, token: str) -> None:
    found: dict[str, list[str]] = {
        "role=node_operator": ["carol"],
        "role=admin": ["admin"],
        "role=super_admin": [],
        "locked=true": ["bob"],
        "locked=false": ["ada", "admin", "carol", "d_ve", "erin"],
        "is_active=false": ["carol"],
        "is_active=true": ["ada", "admin", "bob", "d_ve", "erin"],
        "q=ada": ["ada", "bob", "erin"],
        "q=ADA": ["ada", "bob", "erin"],
        "q=example.net": ["erin"],
        "q=d_ve": ["d_ve"],
        "q=_": ["d_ve"],
        "q=%25": [],
        "q=.*": [],
        "q=ada%40example.org": ["ada"],
        "q=ada&locked=true": ["bob"],
        "q=ada&locked=false&role=user": ["ada", "erin"],
        "q=": ["ada", "admin", "bob", "carol", "d_ve", "erin"],
        "role=&locked=&page=&limit=": ["ada", "admin", "bob", "carol", "d_ve", "erin"],
    }
    answers = {query: api.send("get", f"/admin/users?{query}&sort=username", token=token).json() for query in found}

    assert {query: [row["username"] for row in answer["users"]] for query, answer in answers.items()} == found
    assert {query: answer["pagination"]["total"] for query, answer in answers.items()} == {
        query: len(rows) for query, rows in found.items()
    }


@pytest.mark.usefixtures("crowd")
def test_the_list_can_be_sorted_and_is_newest_first_by_default(api: ApiClient, token: str) -> None:
    orders = {
        "-created_at": ["ada", "bob", "carol", "d_ve", "erin", "admin"],
        "created_at": ["admin", "erin", "d_ve", "carol", "bob", "ada"],
        "username": ["ada", "admin", "bob", "carol", "d_ve", "erin"],
        "-username": ["erin", "d_ve", "carol", "bob", "admin", "ada"],
        "email": ["ada", "erin", "admin", "bob", "carol", "d_ve"],
        "-email": ["d_ve", "carol", "bob", "admin", "erin", "ada"],
    }
    found = {sort: [row["username"] for row in ask(api, token, sort=sort).json()["users"]] for sort in orders}

    assert found == orders
    assert [row["username"] for row in ask(api, token).json()["users"]] == orders["-created_at"]
    assert [row["username"] for row in ask(api, token, sort="-last_login").json()["users"]][:2] == ["d_ve", "ada"]


@pytest.mark.usefixtures("crowd")
def test_each_user_is_on_one_page(api: ApiClient, token: str) -> None:
    pages = [ask(api, token, sort="username", limit=4, page=page).json() for page in (1, 2, 3)]

    names = [[row["username"] for row in page["users"]] for page in pages]
    assert names == [["ada", "admin", "bob", "carol"], ["d_ve", "erin"], []]
    assert [page["pagination"] for page in pages] == [
        {"page": page, "limit": 4, "total": 6, "pages": 2} for page in (1, 2, 3)
    ]


def test_an_empty_list_has_no_pages(api: ApiClient, token: str) -> None:
    body = ask(api, token, q="nobody at all").json()

    assert body == {"users": [], "pagination": {"page": 1, "limit": 20, "total": 0, "pages": 0}}


def test_an_invalid_query_is_refused(api: ApiClient, token: str) -> None:
    rules = {
        "role=king": "1003", "locked=perhaps": "1003", "is_active=2": "1003", "q=" + "a" * 101: "1004",
        "page=0": "1004", "page=-1": "1004", "page=x": "1003", "page=1.5": "1003", "page=1000001": "1004",
        "limit=0": "1004", "limit=101": "1004", "limit=all": "1003", "sort=password": "1003",
        "sort=role": "1003", "sort=--email": "1003", "page=0&limit=all": "1001", "page=" + "9" * 2000: "1004",
    }  # fmt: skip
    answers = {query: api.send("get", f"/admin/users?{query}", token=token) for query in rules}

    assert {query: error_code(answer) for query, answer in answers.items()} == rules
    assert {answer.status_code for answer in answers.values()} == {422}


# Locking and unlocking


def test_a_lock_stops_the_user_until_the_unlock(
    api: ApiClient, owner: User, tokens: TokenPair, admin: User, token: str
) -> None:
    locked = act(api, token, "lock", owner.pk, REASON)
    assert locked.status_code == 200
    assert set(locked.json()) == MANAGED
    assert (locked.json()["lock_reason"], locked.json()["locked_by"]) == ("stolen laptop", str(admin.pk))
    assert locked.json()["locked_until"].startswith("9999-12-31")
    assert error_code(api.send("get", "/users/me", token=tokens.access)) == "2005"

    unlocked = act(api, token, "unlock", owner.pk)
    assert (unlocked.json()["locked_until"], unlocked.json()["lock_reason"]) == (None, "")
    owner.refresh_from_db()
    assert api.send("get", "/users/me", token=issue_tokens(owner).access).status_code == 200


def test_a_lock_can_expire(api: ApiClient, owner: User, token: str) -> None:
    response = act(api, token, "lock", owner.pk, REASON | {"until": "2999-01-31T14:00:00+02:00"})

    assert response.json()["locked_until"] == "2999-01-31T12:00:00Z"
    owner.refresh_from_db()
    assert owner.locked_until == datetime(2999, 1, 31, 12, tzinfo=UTC)


def test_a_lock_needs_a_reason_and_an_end_in_the_future(api: ApiClient, owner: User, token: str) -> None:
    rules: list[tuple[dict[str, Any], str]] = [
        ({}, "1002"),
        ({"reason": ""}, "1002"),
        ({"reason": "a" * 201}, "1004"),
        ({"reason": ["a"]}, "1003"),
        (REASON | {"until": "2001-01-01T00:00:00Z"}, "1008"),
        (REASON | {"until": "soon"}, "1008"),
        (REASON | {"until": None}, "1002"),
    ]
    answers = [act(api, token, "lock", owner.pk, data) for data, _ in rules]

    assert [error_code(answer) for answer in answers] == [code for _, code in rules]
    assert {answer.status_code for answer in answers} == {422}
    assert not User.objects.locked().exists()


def test_a_lock_and_an_unlock_are_audited(api: ApiClient, owner: User, admin: User, token: str) -> None:
    until = "2999-01-31T12:00:00Z"
    locked = event_of(act(api, token, "lock", owner.pk, REASON | {"until": until}), "user.locked")
    unlocked = event_of(act(api, token, "unlock", owner.pk), "user.unlocked")

    assert {locked.actor, unlocked.actor} == {str(admin.pk)}
    assert {locked.subject, unlocked.subject} == {str(owner.pk)}
    lock = {"locked_until": [None, "2999-01-31T12:00:00Z"], "lock_reason": ["", "stolen laptop"]}
    assert locked.details.pop("changes") == lock
    assert locked.details == {"reason": "stolen laptop", "until": "2999-01-31T12:00:00+00:00"}
    assert unlocked.details == {"changes": {name: [after, before] for name, (before, after) in lock.items()}}


# Roles and tokens


def test_a_change_of_role_ends_the_tokens_with_the_old_role(
    api: ApiClient, owner: User, tokens: TokenPair, super_admin: User, super_token: str
) -> None:
    response = act(api, super_token, "role", owner.pk, {"role": "node_operator"})

    assert (response.status_code, response.json()["role"]) == (200, "node_operator")
    assert error_code(api.send("get", "/users/me", token=tokens.access)) == "2003"
    assert error_code(api.send("post", "/auth/refresh", {"refresh_token": tokens.refresh})) == "2010"
    event = event_of(response, "user.role_changed")
    assert (event.actor, event.subject) == (str(super_admin.pk), str(owner.pk))
    assert event.details.pop("changes") == {"role": ["user", "node_operator"]}
    assert event.details == {"before": "user", "after": "node_operator"}


@pytest.mark.parametrize("role", ["super_admin", "user"])
def test_staff_cannot_change_their_own_role(api: ApiClient, super_admin: User, super_token: str, role: str) -> None:
    response = act(api, super_token, "role", super_admin.pk, {"role": role})

    assert response.status_code == 403
    assert error_code(response) == "2004"
    assert User.objects.get(pk=super_admin.pk).role == "super_admin"
    assert api.send("get", "/users/me", token=super_token).status_code == 200


def test_an_admin_cannot_change_roles(api: ApiClient, owner: User, admin: User, token: str) -> None:
    answers = [act(api, token, "role", user.pk, {"role": "super_admin"}) for user in (owner, admin)]

    assert [(answer.status_code, error_code(answer)) for answer in answers] == [(403, "2004")] * 2
    assert not User.objects.filter(role=Role.SUPER_ADMIN).exists()


def test_an_unknown_role_is_refused(api: ApiClient, owner: User, super_token: str) -> None:
    codes = [error_code(act(api, super_token, "role", owner.pk, data)) for data in ({"role": "king"}, {})]

    assert codes == ["1003", "1002"]
    assert User.objects.get(pk=owner.pk).role == "user"


def test_revoking_tokens_ends_all_tokens_but_no_api_key(
    api: ApiClient, owner: User, tokens: TokenPair, admin: User, token: str
) -> None:
    key = create_api_key(owner, name="key", permissions=["user:read"])[1]

    response = act(api, token, "revoke-tokens", owner.pk)

    assert (response.status_code, response.json()) == (200, {"revoked": 2})
    assert error_code(api.send("get", "/users/me", token=tokens.access)) == "2003"
    assert api.send("get", "/users/me", headers={"X-API-Key": key}).status_code == 200
    event = event_of(response, "token.revoked")
    assert (event.actor, event.subject, event.details) == (str(admin.pk), str(owner.pk), {"tokens": 2})


# Who may act on whom


@pytest.mark.parametrize("role", [Role.ADMIN, Role.SUPER_ADMIN])
def test_an_admin_cannot_act_on_other_staff(api: ApiClient, token: str, role: Role) -> None:
    colleague = make_user("colleague", role)
    before = User.objects.values().get(pk=colleague.pk)

    answers = [act(api, token, action, colleague.pk, REASON) for action in ("lock", "unlock", "revoke-tokens", "role")]

    assert [(answer.status_code, error_code(answer)) for answer in answers] == [(403, "2004")] * 4
    assert User.objects.values().get(pk=colleague.pk) == before
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("role", [Role.ADMIN, Role.SUPER_ADMIN])
def test_a_super_admin_can_act_on_all_staff(api: ApiClient, super_token: str, role: Role) -> None:
    colleague = make_user("colleague", role)
    actions = {"lock": REASON, "unlock": {}, "revoke-tokens": {}, "role": {"role": "user"}}

    statuses = [act(api, super_token, action, colleague.pk, data).status_code for action, data in actions.items()]

    assert statuses == [200] * 4
    assert User.objects.get(pk=colleague.pk).role == "user"


@pytest.mark.parametrize("role", [Role.ADMIN, Role.SUPER_ADMIN])
@pytest.mark.parametrize("by_key", [False, True])
def test_staff_cannot_lock_their_own_account(api: ApiClient, db: None, role: Role, by_key: bool) -> None:
    operator = make_user("operator", role)
    key = create_api_key(operator, name="key", permissions=["admin:write", "user:read"])[1]
    headers = {"X-API-Key": key} if by_key else {"Authorization": f"Bearer {issue_tokens(operator).access}"}

    response = api.send("post", f"/admin/users/{operator.pk}/lock", REASON, headers=headers)

    assert (response.status_code, error_code(response)) == (409, "4003")
    assert response.json()["error"]["message"] == "Staff cannot lock or delete their own account; another operator can"
    assert api.send("get", "/users/me", headers=headers).status_code == 200
    assert not AuditEvent.objects.filter(type="user.locked").exists()


def test_a_super_admin_cannot_demote_themselves(api: ApiClient, super_admin: User, super_token: str) -> None:
    response = act(api, super_token, "role", super_admin.pk, {"role": "user"})

    assert (response.status_code, error_code(response)) == (403, "2004")
    super_admin.refresh_from_db()
    assert super_admin.role == "super_admin"


def test_an_unknown_user_is_404_and_a_malformed_id_422(api: ApiClient, super_token: str) -> None:
    actions = {"lock": REASON, "unlock": {}, "revoke-tokens": {}, "role": {"role": "user"}}
    unknown = [act(api, super_token, action, uuid.uuid4(), data) for action, data in actions.items()]
    odd = [act(api, super_token, action, "not-a-uuid", data) for action, data in actions.items()]

    assert [(answer.status_code, error_code(answer)) for answer in unknown] == [(404, "4001")] * 4
    assert [(answer.status_code, error_code(answer)) for answer in odd] == [(422, "1005")] * 4
