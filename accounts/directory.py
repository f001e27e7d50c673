"""Finds users and API keys by what operators type, and names them on the pages of limits and addresses."""

import re
import uuid
from collections.abc import Iterable, Iterator

from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.urls import reverse

from accounts.affected import affected_by_address_rule, affected_by_limit_rule
from accounts.models import ApiKey, User
from lucid_gateway.kernel.secrets.pasted import KEY_PREFIX
from lucid_gateway.operators.directory import Name
from lucid_gateway.operators.search import AFTER_ALL, KEY_ID

SUBJECT = re.compile(r"user:[0-9a-f-]{36}|key:[a-z0-9]{12}")
MAX_SUGGESTIONS = 5
MAX_KEYS = 10


def find_subject(text: str) -> str:
    """Return the subject of a limit rule: `user:<id>`, `key:<id>`, or "" for everyone.

    The text is an email, a username, the id of a user, the name or the id of an API key, or a subject. Raises
    ValidationError that says what was not found, or whom else the text could mean.
    """
    text = text.strip()
    if not text or SUBJECT.fullmatch(text):
        return text
    found = list(subjects_called(text))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValidationError(not_found(text), code="not_found")
    raise ValidationError(f"Several have this name. Enter one of: {', '.join(found)}.", code="ambiguous")


def subjects_called(text: str) -> Iterator[str]:
    """Yield the subjects that the text names; API keys only if they are neither revoked nor expired."""
    user = user_called(text)
    if user is not None:
        yield f"user:{user.pk}"
    if user is None or user.username == text.lower():
        yield from (f"key:{key.key_id}" for key in keys_called(text, ApiKey.objects.live()))


def user_called(text: str) -> User | None:
    """Return the user with this id, email or username."""
    text = text.strip()
    if user_id := uuid_of(text):
        return User.objects.filter(pk=user_id).first()
    return User.objects.filter(**{"email" if "@" in text else "username": text.lower()}).first()


def keys_called(text: str, among: "QuerySet[ApiKey] | None" = None) -> list[ApiKey]:
    """Return the first API keys with this name or id, with their owners. Of a pasted key, only the prefix is read."""
    text = text.strip()
    prefix = KEY_PREFIX.fullmatch(text)
    key_id = prefix[1] if prefix else text
    named = Q(pk=key_id) if prefix else Q(name=text)
    found = ApiKey.objects.all() if among is None else among
    keys = list(found.filter(named | Q(pk=key_id) if KEY_ID.fullmatch(key_id) else named).order_by()[:MAX_KEYS])
    owners = User.objects.in_bulk({key.user_id for key in keys}) if keys else {}
    for key in keys:
        key.user = owners[key.user_id]
    return keys


def not_found(text: str) -> str:
    """Return what was looked for in vain."""
    if uuid_of(text):
        return f"No user has the id {text}."
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    known = suggestions(text)
    hint = f" Did you mean {' or '.join(known)}?" if known else ""
    return f"No user has the {'email' if '@' in text else 'username'} {shown}, and no active API key this name.{hint}"


def suggestions(text: str) -> list[str]:
    """Return at most five emails of users whose email or username begins with the text."""
    start = text.strip().lower()
    if not start:
        return []
    names = (Q(**{f"{field}__gte": start, f"{field}__lt": start + AFTER_ALL}) for field in ("email", "username"))
    emails = (User.objects.filter(name).order_by().values_list("email", flat=True)[:MAX_SUGGESTIONS] for name in names)
    return sorted({email for found in emails for email in found})[:MAX_SUGGESTIONS]


def names_of(who: Iterable[str]) -> dict[str, Name]:
    """Return the names of subjects, of ids of users, and of emails; those that are unknown are left out."""
    wanted = set(who) - {""}
    keys = [name.removeprefix("key:") for name in wanted if name.startswith("key:")]
    ids = {user_id for name in wanted if (user_id := uuid_of(name.removeprefix("user:")))}
    emails = {name for name in wanted if "@" in name}
    names: dict[str, Name] = {}
    if ids or emails:
        for pk, email in User.objects.filter(Q(pk__in=ids) | Q(email__in=emails)).values_list("pk", "email"):
            page = reverse("admin:accounts_user_change", args=[pk])
            names |= {name: Name(email, page) for name in (str(pk), f"user:{pk}", email) if name in wanted}
    if keys:
        for key_id, name, email in ApiKey.objects.filter(pk__in=keys).values_list("pk", "name", "user__email"):
            page = reverse("admin:accounts_apikey_change", args=[key_id])
            names[f"key:{key_id}"] = Name(f"{name} ({key_id}) of {email}", page)
    return names


def uuid_of(text: str) -> uuid.UUID | None:
    """Return the UUID that the text is, or None."""
    try:
        return uuid.UUID(text) if len(text) == 36 else None
    except ValueError:
        return None


def whom_a_limit_affects(tier: str, subject: str) -> str:
    """Return in words whom a limit rule would affect."""
    return affected_by_limit_rule(tier, subject).text


def whom_an_address_rule_affects(network: str) -> str:
    """Return in words whom a rule for the network would affect; raise ValidationError."""
    return affected_by_address_rule(network).text
