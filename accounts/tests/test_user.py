"""GET /users/{user_id}: for the user and for staff."""

import uuid
from typing import Any

import pytest

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tests.test_users import FIELDS
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.users.profile import delete_account
from conftest import ApiClient, error_code, make_user
from lucid_gateway.policy.roles import Role


def read_user(api: ApiClient, user_id: object, token: str) -> Any:
    return api.send("get", f"/users/{user_id}", token=token)


@pytest.fixture
def staff(db: None) -> str:
    """An access token that may read all users."""
    return issue_tokens(make_user("staff", Role.ADMIN)).access


def test_users_can_read_their_own_account(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    response = read_user(api, owner.pk, tokens.access)

    assert response.status_code == 200
    assert response.json() == api.send("get", "/users/me", token=tokens.access).json()


def test_every_spelling_of_their_own_id_is_accepted(api: ApiClient, owner: User, tokens: TokenPair) -> None:
    for user_id in (str(owner.pk).upper(), owner.pk.hex):
        assert read_user(api, user_id, tokens.access).status_code == 200


def test_staff_can_read_every_account(api: ApiClient, owner: User, super_admin: User, staff: str) -> None:
    for user in (owner, super_admin):
        response = read_user(api, user.pk, staff)
        assert response.status_code == 200
        assert set(response.json()) == FIELDS
        assert response.json()["user_id"] == str(user.pk)


def test_staff_get_404_for_an_unknown_id(api: ApiClient, staff: str) -> None:
    response = read_user(api, uuid.uuid4(), staff)

    assert response.status_code == 404
    assert error_code(response) == "4001"


def test_other_users_do_not_learn_which_ids_exist(api: ApiClient, owner: User, node_operator: User) -> None:
    token = issue_tokens(node_operator).access
    answers = [read_user(api, user_id, token) for user_id in (owner.pk, uuid.uuid4())]

    assert [(answer.status_code, error_code(answer)) for answer in answers] == [(403, "2004")] * 2
    known, unknown = ({**answer.json()["error"], "request_id": "", "timestamp": ""} for answer in answers)
    assert known == unknown


def test_a_malformed_id_is_reported_as_such(api: ApiClient, tokens: TokenPair, staff: str) -> None:
    odd = ["1", "not-a-uuid", "00000000-0000-0000-0000-00000000000g", "me2"]
    answers = [read_user(api, user_id, token) for user_id in odd for token in (tokens.access, staff)]

    assert [(answer.status_code, error_code(answer)) for answer in answers] == [(422, "1005")] * 8


def test_a_key_reads_only_what_its_permissions_allow(api: ApiClient, owner: User, super_admin: User) -> None:
    def status(user: User, *permissions: str) -> int:
        key = create_api_key(super_admin, name="key", permissions=permissions)[1]
        answer: int = api.send("get", f"/users/{user.pk}", headers={"X-API-Key": key}).status_code
        return answer

    assert [status(user, "user:read") for user in (super_admin, owner)] == [200, 403]
    assert [status(user, "admin:read") for user in (super_admin, owner)] == [403, 200]


def test_a_deleted_user_has_no_personal_data(api: ApiClient, owner: User, staff: str) -> None:
    delete_account(owner)

    body = read_user(api, owner.pk, staff).json()
    assert body["email"].endswith("@deleted.invalid")


def test_it_is_read_only(api: ApiClient, owner: User, staff: str) -> None:
    methods = ("post", "put", "patch", "delete")
    answers = [api.send(method, f"/users/{owner.pk}", {}, token=staff) for method in methods]

    assert [(answer.status_code, error_code(answer)) for answer in answers] == [(405, "4003")] * 4
