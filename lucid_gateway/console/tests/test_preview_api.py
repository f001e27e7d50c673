"""POST /api/v1/admin/preview: what would happen to a request."""

import uuid
from typing import Any

import pytest

from accounts.api_keys import create_api_key
from accounts.models import User
from accounts.tokens.issuing import issue_tokens
from conftest import ApiClient, error_code

pytestmark = pytest.mark.django_db
PATH = "/api/v1/chain/info"


def ask(api: ApiClient, user: User, **body: Any) -> Any:
    """Send the question as the user, with the method and path of a request that is let in."""
    body = {"method": "GET", "path": PATH} | body
    return api.send("post", "/admin/preview", body, token=issue_tokens(user).access)


def test_a_request_that_is_let_in(api: ApiClient, admin: User, owner: User) -> None:
    answer = ask(api, admin, user_id=str(owner.pk), address="192.0.2.7").json()

    assert set(answer) == {"sentence", "status", "error_code", "reason", "retry_after", "steps"}
    assert (answer["status"], answer["error_code"], answer["reason"], answer["retry_after"]) == (None,) * 4
    assert len(answer["steps"]) == 18
    assert answer["steps"][1] == {
        "step": "address_rule", "outcome": "passed", "reason": None, "text": "192.0.2.7 · no rule refuses it",
    }  # fmt: skip


def test_a_request_that_is_refused(api: ApiClient, admin: User, owner: User) -> None:
    answer = ask(api, admin, email=owner.email.upper(), path="/api/v1/admin/users").json()

    assert (answer["status"], answer["error_code"], answer["reason"]) == (403, "LUCID_ERR_2004", "permission_missing")
    assert answer["sentence"].startswith(
        "It would be refused with 403: the permission admin:read is missing. The role user"
    )
    [refused] = [step for step in answer["steps"] if step["outcome"] == "refused"]
    assert (refused["step"], refused["reason"]) == ("permission", "permission_missing")


def test_a_request_with_an_api_key(api: ApiClient, admin: User, owner: User) -> None:
    key, _ = create_api_key(owner, name="indexer", permissions=["blockchain:read"])

    assert ask(api, admin, key_id=key.key_id).json()["status"] is None
    assert ask(api, admin, key_id=key.key_id, path="/api/v1/wallets").json()["status"] == 403


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user_id": str(uuid.UUID(int=1))},
        {"email": "nobody@example.org"},
        {"key_id": "abcdefghijkl"},
        {"address": "nowhere"},
        {"address": "192.0.2.7", "method": "BREW"},
        {"address": "192.0.2.7", "path": ""},
        {"email": "owner@example.org", "key_id": "abcdefghijkl"},
    ],
    ids=str,
)
def test_a_question_that_cannot_be_answered_is_refused(
    api: ApiClient, admin: User, owner: User, body: dict[str, Any]
) -> None:
    assert ask(api, admin, **body).status_code == 422


@pytest.mark.parametrize("role", ["owner", "node_operator"])
def test_only_staff_may_ask(api: ApiClient, request: pytest.FixtureRequest, role: str) -> None:
    answer = ask(api, request.getfixturevalue(role), address="192.0.2.7")

    assert (answer.status_code, error_code(answer)) == (403, "2004")
