"""Tickets for WebSockets. A browser cannot send a credential with a handshake, so it sends a ticket in the query.

A ticket stands for the credential that asked for it, works once, and expires soon. Redis has its hash only.
"""

import dataclasses
import json
import re
import secrets
import uuid
from pathlib import Path
from urllib.parse import unquote_plus

from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.redis.access import redis_call
from lucid_gateway.kernel.redis.script import RedisScript
from lucid_gateway.kernel.secrets.digests import secret_hash
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import BadRequest, TokenInvalid
from lucid_gateway.policy.roles import Role

LIFETIME_SECONDS = 30
PARAMETER = "ticket"
# The id of the user, whose keys one node of Redis holds, and the secret.
TICKET = re.compile(r"lt_([0-9a-f]{32})_[A-Za-z0-9_-]{43}")
take = RedisScript(Path(__file__).parent / "take_ticket.lua")


def create_ticket(caller: Caller) -> str:
    """Return a new ticket for the caller's credential; raise RedisUnavailable."""
    ticket = f"lt_{uuid.UUID(caller.user_id).hex}_{secrets.token_urlsafe(32)}"
    permissions = None if caller.key_permissions is None else sorted(caller.key_permissions)
    stored = json.dumps(dataclasses.asdict(caller) | {"key_permissions": permissions})
    key = keys.ticket(caller.user_id, secret_hash(ticket))
    redis_call(key, lambda redis: redis.set(key, stored, ex=LIFETIME_SECONDS))
    return ticket


def take_ticket(ticket: str) -> Caller:
    """Return the caller for whom the ticket stands, and use it up; raise TokenInvalid or RedisUnavailable.

    The caller's credential may have been revoked since.
    """
    match = TICKET.fullmatch(ticket)
    stored = take([keys.ticket(uuid.UUID(match[1]), secret_hash(ticket))], []) if match else None
    if stored is None:
        raise TokenInvalid(reason="ticket_unknown")
    facts = json.loads(stored)
    permissions = None if facts["key_permissions"] is None else frozenset(facts["key_permissions"])
    return Caller(**facts | {"role": Role(facts["role"]), "key_permissions": permissions})


def is_ticket(pair: str) -> bool:
    """Return whether a `name=value` of a query is a ticket."""
    return unquote_plus(pair.partition("=")[0]) == PARAMETER


def ticket_in(query: str) -> str | None:
    """Return the ticket in the query, None without one; raise BadRequest for several."""
    found = [unquote_plus(pair.partition("=")[2]) for pair in query.split("&") if is_ticket(pair)]
    if len(found) > 1:
        raise BadRequest("More than one ticket", reason="several_credentials")
    return found[0] if found else None


def without_ticket(query: str) -> str:
    """Return the query without its ticket."""
    return "&".join(pair for pair in query.split("&") if not is_ticket(pair))
