"""What the database itself enforces: unique keys, indexes, and case-insensitive emails."""

import uuid
from datetime import timedelta

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import ApiKey, IssuedToken, User
from lucid_gateway.policy.roles import Role


def indexed(model: type) -> set[tuple[str, ...]]:
    """Return the columns of each index of the model's table."""
    if settings.ON_MONGODB:
        found = connection.get_collection(model._meta.db_table).index_information().values()
        return {tuple(name for name, _ in index["key"]) for index in found}
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, model._meta.db_table).values()
    return {tuple(one["columns"]) for one in found if one["index"] or one["unique"]}


def test_columns_for_lookups_and_sorting_are_indexed(db: None) -> None:
    assert indexed(User) >= {
        ("email",), ("username",), ("role", "created_at", "user_id"), ("locked_until",), ("created_at", "user_id"),
    }  # fmt: skip
    assert indexed(IssuedToken) >= {
        ("family",), ("user_id",), ("issued_at", "jti"), ("expires_at",), ("user_id", "expires_at"),
        ("revoked_at", "expires_at"),
    }  # fmt: skip


@pytest.mark.usefixtures("transactional_db")
@pytest.mark.parametrize("shared", ["email", "username", "user_id"])
def test_the_database_refuses_duplicates(shared: str) -> None:
    one = User.objects.create_user("one@example.org", "one")
    two = User(email="two@example.org", username="two")
    setattr(two, shared, getattr(one, shared))

    with pytest.raises(IntegrityError):
        two.save(force_insert=True)


@pytest.mark.usefixtures("transactional_db")
def test_a_token_is_recorded_once() -> None:
    user = User.objects.create_user("one@example.org", "one")
    now = timezone.now()
    fields = {"jti": uuid.uuid4().hex, "family": uuid.uuid4(), "user": user, "kind": "access"}
    IssuedToken.objects.create(**fields, issued_at=now, expires_at=now)

    with pytest.raises(IntegrityError):
        IssuedToken.objects.create(**fields, issued_at=now, expires_at=now)


def test_a_place_holds_one_api_key(owner: User, super_admin: User) -> None:
    for number, (user, place) in enumerate([(owner, 1), (owner, 2), (super_admin, 1), (owner, None), (owner, None)]):
        ApiKey.objects.create(key_id=f"key-{number}", user=user, place=place)

    with pytest.raises(IntegrityError), transaction.atomic():
        ApiKey.objects.create(key_id="one too many", user=owner, place=1)


def test_emails_are_stored_in_lower_case(db: None) -> None:
    created = User.objects.create_user("ADA@Example.ORG", "ada")
    edited = User(email="BOB@Example.ORG", username="bob")
    edited.full_clean(exclude=["password"])

    assert (created.email, edited.email) == ("ada@example.org", "bob@example.org")
    assert User.objects.get_by_natural_key("Ada@EXAMPLE.org") == created


def test_createsuperuser_makes_a_super_admin(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "Correct-Horse-7")
    call_command("createsuperuser", "--noinput", "--email", "Root@example.org", "--username", "root", verbosity=0)

    user = User.objects.get()
    assert (user.email, user.role, user.is_staff) == ("root@example.org", Role.SUPER_ADMIN, True)
    with pytest.raises(CommandError), transaction.atomic():
        call_command("createsuperuser", "--noinput", "--email", "root@EXAMPLE.org", "--username", "r2", verbosity=0)


def test_times_are_read_as_they_were_written(owner: User) -> None:
    until = (timezone.now() + timedelta(hours=1)).replace(microsecond=123000)
    User.objects.update(locked_until=until)

    assert User.objects.get().locked_until == until


def test_live_tokens_are_neither_expired_nor_revoked(owner: User) -> None:
    now = timezone.now()
    for name, expires, revoked in (("live", 60, None), ("old", -60, None), ("revoked", 60, now)):
        IssuedToken.objects.create(
            jti=name, family=owner.pk, user=owner, kind="access", issued_at=now, revoked_at=revoked,
            expires_at=now + timedelta(seconds=expires),
        )  # fmt: skip

    assert [token.jti for token in IssuedToken.objects.live()] == ["live"]
    assert [token.jti for token in IssuedToken.objects.to_blacklist()] == ["revoked"]


def test_no_repr_contains_a_password_or_a_token(owner: User) -> None:
    assert str(owner) == "owner@example.org"
    assert owner.password not in repr(owner)
    assert str(IssuedToken(jti="name", kind="access")) == "access name"
