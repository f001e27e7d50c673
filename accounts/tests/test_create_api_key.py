"""manage.py create_api_key. The use of keys is tested in test_api_keys.py."""

import io
import json
from datetime import datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.api_keys import MAX_KEYS
from accounts.models import ApiKey, User
from conftest import ApiClient
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.kernel.secrets.digests import secret_hash
from lucid_gateway.kernel.secrets.pasted import API_KEY
from lucid_gateway.policy.roles import PERMISSIONS, Role


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("create_api_key", *arguments, stdout=output)
    return output.getvalue().strip()


def test_the_key_is_printed_alone_and_works(api: ApiClient, owner: User) -> None:
    printed = run("--email", "OWNER@example.org", "--name", "backup")

    assert API_KEY.fullmatch(printed)
    assert api.send("get", "/auth/status", headers={"X-API-Key": printed}).json()["user_id"] == str(owner.pk)


def test_by_default_it_has_all_permissions_of_its_owner_and_never_expires(node_operator: User) -> None:
    printed = json.loads(run("--email", node_operator.email, "--name", "backup", "--json"))

    assert set(printed["permissions"]) == set(PERMISSIONS[Role.NODE_OPERATOR])
    assert printed["expires_at"] is None


def test_the_json_output_equals_the_answer_of_the_api(owner: User) -> None:
    arguments = ("--permission", "user:read", "--permission", "blockchain:read", "--expires-in-days", "30", "--json")
    printed = json.loads(run("--email", owner.email, "--name", "backup", *arguments))

    times = {"created_at", "expires_at", "last_used_at", "suspended_at"}
    assert set(printed) == {"key_id", "name", "permissions", "api_key", *times}
    assert (printed["name"], printed["permissions"]) == ("backup", ["blockchain:read", "user:read"])
    ends = datetime.fromisoformat(printed["expires_at"])
    assert abs(ends - timezone.now() - timedelta(days=30)) < timedelta(minutes=1)


def test_only_its_hash_is_stored(owner: User) -> None:
    printed = run("--email", owner.email, "--name", "backup")

    assert ApiKey.objects.get().secret_hash == secret_hash(printed)
    for stored in (ApiKey.objects.values(), AuditEvent.objects.values()):
        assert printed not in repr(list(stored))
        assert printed.split("_", 2)[2] not in repr(list(stored))


def test_the_audit_log_names_the_command(owner: User) -> None:
    run("--email", owner.email, "--name", "backup")

    event = AuditEvent.objects.get(type="api_key.created")
    assert (event.actor, event.subject) == ("manage.py", str(owner.pk))


def test_a_permission_that_the_owner_lacks_is_refused(owner: User) -> None:
    with pytest.raises(CommandError, match=r"owner@example\.org does not have admin:read, blockchain:write"):
        run("--email", owner.email, "--name", "x", "--permission", "blockchain:write", "--permission", "admin:read")
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--name", "x"], "--email"),
        (["--email", "owner@example.org"], "--name"),
        (["--email", "owner@example.org", "--name", "x", "--permission", "all"], "invalid choice: 'all'"),
        (["--email", "owner@example.org", "--name", "x", "--expires-in-days", "0"], "must be 1 to 36500"),
        (["--email", "owner@example.org", "--name", "x", "--expires-in-days", "-1"], "must be 1 to 36500"),
        (["--email", "owner@example.org", "--name", "x", "--expires-in-days", "soon"], "invalid int value"),
        (["--email", "owner@example.org", "--name", "x", "--expires-in-days", "9999999999"], "must be 1 to 36500"),
        (["--email", "owner@example.org", "--name", ""], "--name must have 1 to 100"),
        (["--email", "owner@example.org", "--name", "x" * 101], "--name must have 1 to 100"),
        (["--email", "nobody@example.org", "--name", "x"], r"no user has the email nobody@example\.org"),
    ],
)
def test_invalid_arguments_are_refused_with_one_line(owner: User, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run(*arguments)
    assert not ApiKey.objects.exists()


def test_the_limit_of_keys_is_that_of_the_api(owner: User) -> None:
    ApiKey.objects.bulk_create(ApiKey(key_id=f"k{number}", user=owner, name="x") for number in range(MAX_KEYS))

    with pytest.raises(CommandError, match=f"A user can have at most {MAX_KEYS} API keys"):
        run("--email", owner.email, "--name", "one more")
