"""The command seed_demo."""

import io
import json
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts.models import User
from conftest import ApiClient


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("seed_demo", *arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def accounts(db: None) -> dict[str, Any]:
    """The JSON output of the command."""
    printed: dict[str, Any] = json.loads(run("--json"))
    return printed


def test_three_accounts_are_created(accounts: dict[str, Any]) -> None:
    assert dict(User.objects.values_list("email", "role")) == {
        accounts["admin"]: "super_admin",
        accounts["operator"]: "node_operator",
        accounts["user"]: "user",
    }


def test_only_the_admin_has_the_password(accounts: dict[str, Any]) -> None:
    assert User.objects.get(email=accounts["admin"]).check_password(accounts["admin_password"])
    assert not User.objects.get(email=accounts["operator"]).has_usable_password()
    assert not User.objects.get(email=accounts["user"]).has_usable_password()


def test_the_token_belongs_to_the_user(api: ApiClient, accounts: dict[str, Any]) -> None:
    response = api.send("get", "/users/me", token=accounts["user_access_token"])

    assert response.json()["email"] == accounts["user"]


def test_a_second_run_creates_no_accounts_and_prints_the_same_password(accounts: dict[str, Any]) -> None:
    again = json.loads(run("--json"))

    assert User.objects.count() == 3
    assert again["admin_password"] == accounts["admin_password"]
    assert User.objects.get(email=accounts["admin"]).check_password(again["admin_password"])


def test_an_admins_own_password_is_kept(accounts: dict[str, Any]) -> None:
    admin = User.objects.get(email=accounts["admin"])
    admin.set_password("Correct-Horse-7")
    admin.save()

    again = json.loads(run("--json"))

    assert "admin_password" not in again
    assert User.objects.get(email=accounts["admin"]).check_password("Correct-Horse-7")


def test_another_installation_has_another_password(accounts: dict[str, Any], settings: Settings) -> None:
    User.objects.all().delete()
    settings.SECRET_KEY = "that of another installation"

    assert json.loads(run("--json"))["admin_password"] != accounts["admin_password"]


def test_without_json_each_value_is_a_line(db: None) -> None:
    lines = run().splitlines()

    assert [line.partition(": ")[0] for line in lines] == [
        "admin", "admin_password", "operator", "user", "user_access_token",
    ]  # fmt: skip


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_it_is_refused_in_production(db: None, settings: Settings, environment: str) -> None:
    settings.ENV = django_settings.ENV.model_copy(update={"ENVIRONMENT": environment})

    with pytest.raises(CommandError, match="refused in production"):
        run()
    assert not User.objects.exists()


def test_an_account_whose_email_has_changed_is_found(accounts: dict[str, Any]) -> None:
    User.objects.filter(email=accounts["user"]).update(email="other@lucid.test")

    assert json.loads(run("--json"))["user"] == "other@lucid.test"
    assert User.objects.count() == 3
