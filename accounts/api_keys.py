"""API keys: an id to look them up, a secret that is shown once, and a subset of the owner's permissions."""

import hmac
import secrets
import time
import uuid
from collections.abc import Sequence
from datetime import datetime

from django.utils import timezone

from accounts.callers import CallerCache, caller_of_api_key
from accounts.idempotency import create_once
from accounts.models import ApiKey, User
from accounts.tokens.locked import account_locked
from accounts.tokens.revocation.publishing import API_KEY_REMEMBERED
from accounts.tokens.revocation.revoking import revoke_api_keys
from lucid_gateway.audit.events import changed, record
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import note_claim
from lucid_gateway.kernel.secrets.digests import secret_hash
from lucid_gateway.kernel.secrets.pasted import API_KEY
from lucid_gateway.kernel.slots import take_slot
from lucid_gateway.policy.errors import (
    GatewayError,
    NotFound,
    OperationNotAllowed,
    TokenExpired,
    TokenInvalid,
)
from lucid_gateway.policy.roles import PERMISSIONS, Role
from ratelimit.addresses.floods import floods
from ratelimit.client_address import address_bucket

MAX_KEYS = 50
ID_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


class TooManyKeys(OperationNotAllowed):
    """The user already has the maximum number of live keys."""

    status, text = 409, f"A user can have at most {MAX_KEYS} API keys"


class KeySuspended(TokenInvalid):
    """A backup restored the key, which may have been revoked after the backup was made."""

    text = "This API key is suspended until an operator confirms it"
    reason = "api_key_suspended"


def state_of(key: ApiKey) -> str:
    """Return whether the key is live, suspended, expired or revoked."""
    if key.revoked_at:
        return "revoked"
    if key.expires_at and key.expires_at <= timezone.now():
        return "expired"
    return "suspended" if key.suspended_at else "live"


def create_api_key(
    user: User,
    *,
    name: str,
    permissions: Sequence[str],
    expires_at: datetime | None = None,
    by: User | str | None = None,
    resource_id: uuid.UUID | None = None,
) -> tuple[ApiKey, str]:
    """Create a key; return it and its text, which is shown only once. Permissions that the user lacks are left out.

    Among calls with the same `resource_id`, one creates the key; the others get an empty text. Raises TooManyKeys.
    """
    key_id = key_id_of(resource_id or uuid.uuid4())
    text = f"lk_{key_id}_{secrets.token_urlsafe(32)}"
    allowed = sorted(PERMISSIONS[Role(user.role)].intersection(permissions))

    def insert() -> ApiKey:
        key = ApiKey(
            key_id=key_id, user=user, name=name, secret_hash=secret_hash(text), permissions=allowed,
            expires_at=expires_at,
        )  # fmt: skip
        if not insert_on_free_place(key):
            raise TooManyKeys()
        made = {"name": name, "permissions": allowed, "expires_at": expires_at, "state": state_of(key)}
        record("api_key.created", subject=user, actor=by, changes=changed({}, made), key_id=key_id, permissions=allowed)
        return key

    key = create_once(ApiKey.objects.owned_by(user.pk), resource_id and key_id, insert)
    return key, text if key.secret_hash == secret_hash(text) else ""


def key_id_of(resource_id: uuid.UUID) -> str:
    """Return the id of a key: twelve letters and digits, derived from the random second half of a UUID."""
    rest, characters = resource_id.int, []
    for _ in range(12):
        rest, index = divmod(rest, len(ID_CHARACTERS))
        characters.append(ID_CHARACTERS[index])
    return "".join(characters)


def insert_on_free_place(key: ApiKey) -> bool:
    """Insert the key on one of its owner's places; return False if live keys take all of them.

    Live keys without a place get theirs first, so that they count towards the limit.
    """
    keys = ApiKey.objects.owned_by(key.user_id)
    keys.ended().filter(place__gte=0).update(place=None)
    waiting = keys.live().filter(place=None)
    return all(take_slot(row, "place", slots=MAX_KEYS) for row in [*waiting, key])


def revoke_api_key(user_id: uuid.UUID | str, key_id: str, *, by: User | str | None = None) -> None:
    """Revoke a key of the user, from its next request on. Raises NotFound for a key of someone else."""
    keys = ApiKey.objects.owned_by(user_id).filter(key_id=key_id)
    key = keys.first()
    if key is None or not revoke_api_keys(keys, whose=key_id):
        raise NotFound()
    record(
        "api_key.revoked", subject=str(user_id), actor=by, changes={"state": [state_of(key), "revoked"]}, key_id=key_id
    )


known_keys: CallerCache[str] = CallerCache()


def caller_of_key(text: str, *, address: str, fresh: bool = False) -> Caller:
    """Return the caller who owns the key; raise TokenInvalid, AccountLocked or TokenExpired.

    A minute-old cache entry serves unless `fresh`; Redis checks revocation, lock and epoch on each request.
    """
    text_hash = secret_hash(text)
    caller = None if fresh else known_keys.get(text_hash)
    if caller is None:
        caller = look_up_key(text, text_hash, address)
        known_keys.put(text_hash, caller, seconds=API_KEY_REMEMBERED.total_seconds())
    note_claim("api_key", caller.jti, caller.user_id, caller.role)
    refuse_expired(caller)
    return caller


def refuse_expired(caller: Caller) -> None:
    """Raise TokenExpired if the caller's API key has expired."""
    if caller.expires_at and caller.expires_at <= time.time():
        raise TokenExpired(reason="api_key_expired")


def look_up_key(text: str, text_hash: str, address: str) -> Caller:
    """Return the caller as the database has it; raise TokenInvalid or AccountLocked.

    An address that exceeds its limit gets few unknown keys looked up. A key that was valid before is known.
    """
    match = API_KEY.fullmatch(text)
    if match is None:
        raise TokenInvalid(reason="api_key_unknown")
    if not known_keys.knows(text_hash) and not floods.may_check(address_bucket(address)):
        raise TokenInvalid(reason="flood_not_checked")
    try:
        return read_key(match[1], text_hash)
    except GatewayError:
        known_keys.forget(text_hash)
        raise


def read_key(key_id: str, text_hash: str) -> Caller:
    """Return the caller whose key has the id and the hash, and update `last_used_at`; raise as `look_up_key` does."""
    key = ApiKey.objects.filter(key_id=key_id, revoked_at=None).select_related("user").first()
    if key is None or not hmac.compare_digest(key.secret_hash, text_hash):
        raise TokenInvalid(reason="api_key_unknown")
    check_key(key)
    ApiKey.objects.filter(pk=key.pk).update(last_used_at=timezone.now())
    return caller_of_api_key(key)


def check_key(key: ApiKey) -> None:
    """Raise TokenInvalid, AccountLocked or KeySuspended unless the key, which is not revoked, may be used."""
    note_claim("api_key", key.key_id, key.user_id, key.user.role)
    if not key.user.is_active:
        raise TokenInvalid(reason="account_deleted")
    if key.user.is_locked:
        raise account_locked(key.user)
    if key.suspended_at is not None:
        raise KeySuspended()


def usable_caller(key: ApiKey) -> Caller:
    """Return the caller that the key's owner would be with the key; raise as `caller_of_key` does."""
    if key.revoked_at is not None:
        raise TokenInvalid(reason="api_key_unknown")
    check_key(key)
    caller = caller_of_api_key(key)
    refuse_expired(caller)
    return caller
