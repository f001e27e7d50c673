"""manage.py lock_user and unlock_user."""

from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import ApiClient, error_code


def test_a_lock_refuses_the_next_request_and_an_unlock_admits_it_again(
    api: ApiClient, owner: User, tokens: TokenPair
) -> None:
    call_command("lock_user", email=owner.email.upper(), reason="a stolen laptop")
    owner.refresh_from_db()
    assert (owner.lock_reason, owner.locked_by) == ("a stolen laptop", "manage.py")
    assert error_code(api.send("get", "/users/me", token=tokens.access)) == "2005"

    call_command("unlock_user", email=owner.email)
    assert api.send("get", "/users/me", token=issue_tokens(User.objects.get()).access).status_code == 200


def test_a_lock_can_expire(owner: User) -> None:
    call_command("lock_user", email=owner.email, until="2999-01-31T12:00:00Z")

    owner.refresh_from_db()
    assert owner.locked_until == datetime(2999, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize("until", ["soon", "2999-01-31T12:00:00", "2999-13-31T12:00:00Z", "2001-01-01T00:00:00Z"])
def test_an_invalid_or_past_time_locks_nobody(owner: User, until: str) -> None:
    with pytest.raises(CommandError, match="--until"):
        call_command("lock_user", email=owner.email, until=until)

    owner.refresh_from_db()
    assert not owner.is_locked


@pytest.mark.parametrize("command", ["lock_user", "unlock_user"])
def test_an_unknown_user_is_an_error(db: None, command: str) -> None:
    with pytest.raises(CommandError, match="no user has the email"):
        call_command(command, email="nobody@example.org")
