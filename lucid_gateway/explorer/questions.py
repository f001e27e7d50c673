"""Reads what people type into the search box and the filters, and turns it into conditions."""

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.directory import keys_called, user_called
from accounts.models import ApiKey, User
from lucid_gateway.explorer.conditions import (
    OUTCOMES,
    Condition,
    Equal,
    of_address,
    of_error_code,
    of_network,
    of_status,
    path_below,
)
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.kernel.secrets.pasted import KEY_PREFIX, without_secrets
from lucid_gateway.operators.search import HYPHENATED, JTI, KEY_ID
from lucid_gateway.policy.clusters import CLUSTERS
from lucid_gateway.policy.reasons import REASONS
from lucid_gateway.server.request_metrics import METHODS

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,128}")
RELATIVE = re.compile(r"([0-9]{1,4})(m|h|d)")
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
NO_ROUTE = "none"


class NotUnderstood(Exception):
    """The text of a filter has no meaning there; the message is a sentence for people."""


class Secret(NotUnderstood):
    """The text contains an API key or a token. It must not be shown again, logged or stored."""

    def __init__(self) -> None:
        super().__init__(
            "This is a secret and was not used. Search for an API key by its prefix, lk_ and twelve characters, and for"
            " a token by its jti."
        )


class SeveralKeys(NotUnderstood):
    """Several API keys have this name; the search needs the id of one of them."""

    def __init__(self, keys: list[ApiKey]) -> None:
        ids = ", ".join(key.key_id for key in keys)
        super().__init__(f"Several API keys have this name. Search by the id of one: {ids}.")
        self.keys = keys


def conditions_of(filters: Mapping[str, str]) -> tuple[Condition, ...]:
    """Return the conditions of the filters that are not empty; raise NotUnderstood."""
    return tuple(READERS[name](text) for name, text in filters.items() if text)


def reader(parse: Callable[[str], Condition], expected: str) -> Callable[[str], Condition]:
    """Return a function that raises NotUnderstood, with what is expected, where `parse` raises ValueError."""

    def read(text: str) -> Condition:
        refuse_secret(text)
        try:
            return parse(text)
        except ValueError as error:
            raise NotUnderstood(f"Expected {expected}.") from error

    return read


def exactly(field: str) -> Callable[[str], Condition]:
    return lambda text: Equal(field, text)


def refuse_secret(text: str) -> None:
    """Raise Secret for a text with a token, or with more of an API key than its prefix."""
    if without_secrets(text) != text:
        raise Secret()


def of_reason(text: str) -> Condition:
    """Return the condition for the name of a reason; raise ValueError."""
    if text not in REASONS:
        raise ValueError(text)
    return Equal("reason", text)


def of_user(text: str) -> Condition:
    """Return the condition for a user's id, email or username; raise ValueError if there is no such user."""
    if HYPHENATED.fullmatch(text):
        return Equal("user_id", text.lower())
    user = user_called(text)
    if user is None:
        raise ValueError(text)
    return Equal("user_id", str(user.pk))


def of_key(text: str) -> Condition:
    """Return the condition for an API key's id, prefix or name, or for the jti of a token.

    Raises SeveralKeys, and ValueError if no key has this name.
    """
    if found := KEY_PREFIX.fullmatch(text):
        return Equal("credential_id", found[1])
    if JTI.fullmatch(text):
        return Equal("credential_id", text)
    keys = keys_called(text)
    if len(keys) > 1:
        raise SeveralKeys(keys)
    if not keys and not KEY_ID.fullmatch(text):
        raise ValueError(text)
    return Equal("credential_id", keys[0].key_id if keys else text)


def of_anything(text: str) -> Condition:
    """Return the condition for the text of the search box, whose form says what it is; raise NotUnderstood."""
    text = text.strip()
    refuse_secret(text)
    for parse in (of_form, of_network, of_status, of_error_code, of_reason):
        try:
            return parse(text)
        except ValueError:
            continue
    return of_name(text)


def of_form(text: str) -> Condition:
    """Return the condition for a text whose first characters or length show what it is; raise ValueError."""
    if text.startswith("/"):
        return path_below(text)
    if text.startswith(("http://", "https://")):
        return Equal("instance", text.rstrip("/"))
    if KEY_PREFIX.fullmatch(text) or JTI.fullmatch(text):
        return of_key(text)
    if HYPHENATED.fullmatch(text):
        return of_uuid(text)
    if text in CLUSTERS:
        return Equal("cluster", text)
    if text in METHODS:
        return Equal("method", text)
    raise ValueError(text)


def of_uuid(text: str) -> Condition:
    """Return the condition for a request's id if there is a request, or an unknown id, and otherwise a user's."""
    if not KeptRequest.objects.filter(request_id=text).exists():
        try:
            if User.objects.filter(pk=uuid.UUID(text)).exists():
                return Equal("user_id", text.lower())
        except ValueError:
            pass
    return Equal("request_id", text)


def of_name(text: str) -> Condition:
    """Return the condition for a request's id, an email, a username, or the name of an API key; raise NotUnderstood."""
    may_be_request = REQUEST_ID.fullmatch(text) is not None
    if may_be_request and KeptRequest.objects.filter(request_id=text).exists():
        return Equal("request_id", text)
    for parse in (of_user, of_key):
        try:
            return parse(text)
        except ValueError:
            continue
    if may_be_request:
        return Equal("request_id", text)
    raise NotUnderstood("No user, API key or request has this name, and it is not an address, a path or a status.")


def moment(text: str) -> datetime:
    """Return a time: `15m`, `1h` or `7d` ago, or RFC 3339, in UTC unless it has an offset. Raises NotUnderstood."""
    if found := RELATIVE.fullmatch(text):
        return timezone.now() - timedelta(**{UNITS[found[2]]: int(found[1])})
    try:
        parsed = parse_datetime(text)
    except ValueError:
        parsed = None
    if parsed is None or not 1970 < parsed.year < 9999:  # keys begin with the time since 1970, in any zone
        raise NotUnderstood("Expected a time such as 15m, 24h or 2026-11-25T14:03:07Z.")
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def of_outcome(text: str) -> tuple[Condition, ...]:
    """Return the conditions for the name of an outcome, none for an empty text; raise NotUnderstood."""
    if text and text not in OUTCOMES:
        raise NotUnderstood(f"Expected one of the outcomes {', '.join(OUTCOMES)}.")
    return OUTCOMES.get(text, ())


def of_route(text: str) -> Condition:
    """Return the condition for a route; NO_ROUTE stands for requests without one."""
    return Equal("route", "" if text == NO_ROUTE else text)


READERS: dict[str, Callable[[str], Condition]] = {
    "q": of_anything,
    "status": reader(of_status, "a status such as 429, or a class such as 4xx"),
    "error_code": reader(of_error_code, "an error code such as 3001 or LUCID_ERR_3001"),
    "reason": reader(of_reason, "the name of a reason, such as tier_exhausted"),
    "route": reader(of_route, f"a route, or {NO_ROUTE} for requests without one"),
    "path": reader(path_below, "the beginning of a path"),
    "method": reader(lambda text: Equal("method", text.upper()), "a method"),
    "cluster": reader(exactly("cluster"), "the name of a cluster"),
    "instance": reader(exactly("instance"), "the address of an instance"),
    "address": reader(of_address, "an address"),
    "network": reader(of_network, "a network such as 192.0.2.0/24"),
    "user": reader(of_user, "the id, email or username of a user"),
    "key": reader(of_key, "the id or name of an API key, or the id of a token"),
}
FILTERS = tuple(READERS)
