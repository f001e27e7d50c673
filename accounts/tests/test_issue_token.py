"""The command issue_token."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from accounts.models import IssuedToken, User
from accounts.tests.test_users import FIELDS
from accounts.users.locks import lock_user
from conftest import ApiClient


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("issue_token", *arguments, stdout=output)
    return output.getvalue()


def test_the_tokens_are_printed_and_work(api: ApiClient, owner: User) -> None:
    printed = dict(line.split() for line in run("--email", owner.email).splitlines())

    assert set(printed) == {"access_token", "refresh_token"}
    assert api.send("get", "/users/me", token=printed["access_token"]).json()["user_id"] == str(owner.pk)
    assert api.send("post", "/auth/refresh", {"refresh_token": printed["refresh_token"]}).status_code == 200


def test_the_json_output_equals_the_answer_of_verify(owner: User) -> None:
    printed = json.loads(run("--email", "OWNER@example.org", "--json"))

    assert set(printed) == {"access_token", "refresh_token", "token_type", "expires_in", "user"}
    assert set(printed["user"]) == FIELDS


def test_the_stored_tokens_name_the_command(owner: User) -> None:
    run("--email", owner.email)

    assert set(IssuedToken.objects.values_list("user_agent", flat=True)) == {"manage.py issue_token"}


def test_an_unknown_user_gets_no_token(db: None) -> None:
    with pytest.raises(CommandError, match=r"no active user has the email nobody@example\.org"):
        run("--email", "nobody@example.org")


def test_a_deactivated_user_gets_no_token(owner: User) -> None:
    User.objects.update(is_active=False)

    with pytest.raises(CommandError, match="no active user"):
        run("--email", owner.email)


def test_a_locked_user_gets_no_token_and_the_reason_is_printed(owner: User) -> None:
    lock_user(owner, reason="stolen laptop", by="")

    with pytest.raises(CommandError, match=r"owner@example\.org is locked: stolen laptop"):
        run("--email", owner.email)
    assert not IssuedToken.objects.exists()


def test_the_email_is_required() -> None:
    with pytest.raises(CommandError, match="--email"):
        run()
