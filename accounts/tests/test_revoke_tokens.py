"""manage.py revoke_tokens and rebuild_blacklist."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from redis import Redis

from accounts.models import User
from accounts.tokens.issuing import TokenPair, issue_tokens
from accounts.tokens.keyring import token_backend
from conftest import ApiClient, error_code


def revoked(**arguments: object) -> int:
    stream = StringIO()
    call_command("revoke_tokens", json=True, stdout=stream, **arguments)
    count: int = json.loads(stream.getvalue())["revoked"]
    return count


def is_let_in(api: ApiClient, token: str) -> bool:
    response = api.send("get", "/users/me", token=token)
    return response.status_code == 200 or error_code(response) != "2003"


def test_the_tokens_of_a_user_end_and_those_of_others_do_not(
    api: ApiClient, owner: User, tokens: TokenPair, node_operator: User
) -> None:
    others = issue_tokens(node_operator)

    assert revoked(email=owner.email) == 2
    assert not is_let_in(api, tokens.access)
    assert is_let_in(api, others.access)


def test_a_single_token_ends(api: ApiClient, tokens: TokenPair) -> None:
    assert revoked(jti=token_backend().decode(tokens.access)["jti"]) == 1
    assert not is_let_in(api, tokens.access)


def test_all_tokens_end(api: ApiClient, tokens: TokenPair, node_operator: User) -> None:
    others = issue_tokens(node_operator)

    assert revoked(all=True, no_input=True) == 4
    assert not is_let_in(api, tokens.access)
    assert not is_let_in(api, others.access)


@pytest.mark.parametrize(("answer", "ends"), [("yes", True), ("y", False), ("", False)])
def test_revoking_all_asks_for_confirmation(
    api: ApiClient, tokens: TokenPair, monkeypatch: pytest.MonkeyPatch, answer: str, ends: bool
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: answer)
    if ends:
        assert revoked(all=True) == 2
    else:
        with pytest.raises(CommandError, match="nothing was revoked"):
            revoked(all=True)
    assert is_let_in(api, tokens.access) is not ends


def test_an_unknown_token_or_user_is_an_error(db: None) -> None:
    with pytest.raises(CommandError, match="jti"):
        revoked(jti="nothing")
    with pytest.raises(CommandError, match="no user has the email"):
        revoked(email="nobody@example.org")


def test_one_of_the_three_options_is_required(db: None) -> None:
    with pytest.raises(CommandError):
        call_command("revoke_tokens")


def test_the_revocations_in_redis_are_rebuilt_from_the_database(
    api: ApiClient, tokens: TokenPair, empty_redis: Redis
) -> None:
    revoked(jti=token_backend().decode(tokens.access)["jti"])
    empty_redis.flushall()
    stream = StringIO()
    call_command("rebuild_blacklist", json=True, stdout=stream)

    assert json.loads(stream.getvalue()) == {"entries": 1}
    assert not is_let_in(api, tokens.access)
