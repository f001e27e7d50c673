"""POST /users: registration."""

from typing import Any

import pytest

from accounts.models import User
from conftest import ApiClient, error_code
from testing.parallel import in_parallel

PASSWORD = "Correct-Horse-7"
ADA = {
    "email": "ada@example.org",
    "username": "ada",
    "password": PASSWORD,
    "first_name": "Ada",
    "last_name": "Lovelace",
}
FIELDS = {
    "user_id", "email", "username", "first_name", "last_name", "role", "created_at", "updated_at", "last_login",
    "hardware_wallet_enabled", "totp_enabled", "email_verified",
}  # fmt: skip


def register(api: ApiClient, **changes: Any) -> Any:
    data = {name: value for name, value in (ADA | changes).items() if value is not ...}
    return api.send("post", "/users", data)


def test_an_account_is_registered(api: ApiClient, db: None) -> None:
    response = register(api)

    assert response.status_code == 201
    body = response.json()
    assert set(body) == FIELDS
    assert {name: body[name] for name in ADA if name != "password"} == {
        name: value for name, value in ADA.items() if name != "password"
    }
    assert (body["role"], body["last_login"], body["email_verified"]) == ("user", None, False)
    assert str(User.objects.get().pk) == body["user_id"]


def test_names_can_be_omitted(api: ApiClient, db: None) -> None:
    response = register(api, first_name=..., last_name=...)

    assert response.status_code == 201
    assert (response.json()["first_name"], response.json()["last_name"]) == ("", "")


def test_the_password_is_neither_returned_nor_stored(api: ApiClient, db: None) -> None:
    response = register(api)

    assert PASSWORD not in response.content.decode()
    user = User.objects.get()
    assert PASSWORD not in user.password
    assert user.check_password(PASSWORD)


def test_spaces_around_a_password_belong_to_it(api: ApiClient, db: None) -> None:
    register(api, password=f" {PASSWORD} ")

    assert User.objects.get().check_password(f" {PASSWORD} ")


def test_the_email_is_stored_in_lower_case(api: ApiClient, db: None) -> None:
    assert register(api, email="Ada@Example.ORG").json()["email"] == "ada@example.org"


@pytest.mark.parametrize("field", ["role", "user_id", "is_active", "email_verified", "locked_until", "is_staff"])
def test_fields_that_users_cannot_set_are_ignored(api: ApiClient, db: None, field: str) -> None:
    usual = register(api, email="usual@example.org", username="usual").json()
    given = register(api, **{field: {"role": "super_admin", "user_id": usual["user_id"]}.get(field, "true")})

    assert given.status_code == 201
    assert given.json()["role"] == "user"
    assert given.json()["user_id"] != usual["user_id"]
    assert given.json()["email_verified"] is False


@pytest.mark.parametrize("email", ["ada@example.org", "ADA@Example.org", " ada@example.org "])
def test_a_taken_email_is_refused_in_any_case(api: ApiClient, db: None, email: str) -> None:
    register(api)

    response = register(api, email=email, username="other")

    assert response.status_code == 409
    assert error_code(response) == "4002"
    assert response.json()["error"]["details"] == {"field": "email"}


def test_a_taken_username_is_refused(api: ApiClient, db: None) -> None:
    register(api)

    response = register(api, email="other@example.org")

    assert response.status_code == 409
    assert response.json()["error"]["details"] == {"field": "username"}


@pytest.mark.usefixtures("transactional_db")
@pytest.mark.parametrize("shared", ["email", "username"])
def test_of_parallel_registrations_one_succeeds(shared: str) -> None:
    def try_one(index: int) -> int:
        own = {"email": f"ada{index}@example.org", "username": f"ada{index}"} | {shared: ADA[shared]}
        status: int = register(ApiClient(HTTP_HOST="testserver"), **own).status_code
        return status

    assert sorted(in_parallel(6, try_one)) == [201] + [409] * 5
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"email": ...}, "1002", "email"),
        ({"username": ...}, "1002", "username"),
        ({"password": ...}, "1002", "password"),
        ({"email": None}, "1002", "email"),
        ({"email": "ada"}, "1006", "email"),
        ({"email": "ada@"}, "1006", "email"),
        ({"email": "a d a@example.org"}, "1006", "email"),
        ({"username": "ab"}, "1003", "username"),
        ({"username": "a" * 51}, "1003", "username"),
        ({"username": "Ada"}, "1003", "username"),
        ({"username": "ada.l"}, "1003", "username"),
        ({"username": "ädä"}, "1003", "username"),
        ({"username": "ada\nada"}, "1003", "username"),
        ({"username": "ada\u200b"}, "1003", "username"),
        ({"first_name": "a" * 101}, "1004", "first_name"),
        ({"last_name": "a" * 101}, "1004", "last_name"),
        ({"first_name": None}, "1002", "first_name"),
        ({"first_name": ["Ada"]}, "1003", "first_name"),
        ({"password": ["Correct-Horse-7"]}, "1003", "password"),
        ({"password": ""}, "1002", "password"),
    ],
)
def test_each_field_has_its_rule(api: ApiClient, db: None, changes: dict[str, Any], code: str, field: str) -> None:
    response = register(api, **changes)

    assert response.status_code == 422
    assert error_code(response) == code
    assert [problem["field"] for problem in response.json()["error"]["details"]["validation_errors"]] == [field]


@pytest.mark.parametrize("username", ["abc", "a" * 50, "0-_", "---"])
def test_usernames_at_the_edge_of_the_rule_are_accepted(api: ApiClient, db: None, username: str) -> None:
    assert register(api, username=username).status_code == 201


@pytest.mark.parametrize(
    "password",
    [
        "Sh0rt-x",
        "no-upper-case-7",
        "NO-LOWER-CASE-7",
        "No-Digit-Here",
        "Password1",
        "9" * 12,
        "Ada@example.org1",
        "Aa1-" + "x" * 125,
    ],
)
def test_a_weak_password_is_refused(api: ApiClient, db: None, password: str) -> None:
    response = register(api, password=password)

    assert response.status_code == 422
    assert error_code(response) == "1007"
    assert password not in response.content.decode()


@pytest.mark.parametrize("password", ["Aa1-qzwy", "Aa1-" + "x" * 124, "Ünïcödé-Pferd-7"])
def test_passwords_at_the_edge_of_the_rule_are_accepted(api: ApiClient, db: None, password: str) -> None:
    assert register(api, password=password).status_code == 201


@pytest.mark.parametrize("field", list(ADA))
@pytest.mark.parametrize("text", ["Ada\x00Ada-7", "Ada\ud800Ada-7"], ids=["NUL", "surrogate"])
def test_nul_and_lone_surrogates_are_refused_in_every_field(api: ApiClient, db: None, field: str, text: str) -> None:
    assert register(api, **{field: text}).status_code in (400, 422)
    assert not User.objects.exists()


def test_several_problems_are_reported_together(api: ApiClient, db: None) -> None:
    response = register(api, email="ada", username="A", first_name="a" * 101)

    assert error_code(response) == "1001"
    problems = response.json()["error"]["details"]["validation_errors"]
    assert {problem["field"] for problem in problems} == {"email", "username", "first_name"}
    assert {frozenset(problem) for problem in problems} == {frozenset({"field", "message", "code"})}


def test_only_the_collection_itself_is_public(api: ApiClient, db: None) -> None:
    assert api.send("get", "/users").status_code == 405
    assert api.send("get", "/users/me").status_code == 401
