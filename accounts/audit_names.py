"""The names of users and API keys, as the audit log shows them."""

from django.db.models import Q

from accounts.models import ApiKey, User
from lucid_gateway.audit.kinds import Concerns
from lucid_gateway.audit.names import API_KEY, finders, searchers


def emails(user_ids: set[str]) -> dict[str, str | None]:
    """Return the emails of users by id, None for a deleted account."""
    rows = User.objects.filter(pk__in=user_ids).values_list("pk", "email", "deleted_at")
    return {str(key): email if deleted_at is None else None for key, email, deleted_at in rows}


def key_names(key_ids: set[str]) -> dict[str, str | None]:
    """Return the names of API keys by id."""
    rows = ApiKey.objects.filter(pk__in=key_ids).values_list("pk", "name")
    return {key: name or f"key {key}" for key, name in rows}


def user_named(text: str) -> str:
    """Return the id of the user with the email or username, or an empty text."""
    found = User.objects.filter(Q(email=text.lower()) | Q(username=text.lower())).values_list("pk", flat=True).first()
    return str(found or "")


def register() -> None:
    """Let the audit log find these names."""
    finders[Concerns.USER] = emails
    finders[API_KEY] = key_names
    searchers.append(user_named)
