"""The search of the audit log: by whole values that have an index, beginnings of types, and networks."""

import ipaddress
from typing import Any

from django.db.models import Q

from lucid_gateway.audit.kinds import KINDS
from lucid_gateway.audit.models import AuditEvent, AuditEventQuerySet
from lucid_gateway.audit.names import searchers
from lucid_gateway.kernel.addresses import key_of, keys_of_network

NAMING_FIELDS = ("actor", "subject", "request_id")


def matching(events: AuditEventQuerySet, term: str) -> AuditEventQuerySet:
    """Return the events that a term of the search box finds: a type, an address or network, an id, or a name."""
    term = term.strip()
    if types := types_named(term):
        return events.filter(type__in=types) if len(types) > 1 else events.filter(type=types[0])
    lookups = lookups_of_network(term)
    if lookups is not None:
        return events.filter(Q(**lookups) | Q(subject=term)) if is_used("subject", term) else events.filter(**lookups)
    return having_id(events, id_named(term) or term)


def types_named(term: str) -> list[str]:
    """Return the type with this name, or those that begin with it if it ends in a dot."""
    if term in KINDS:
        return [term]
    return [name for name in KINDS if name.startswith(term)] if term.endswith(".") else []


def lookups_of_network(term: str) -> dict[str, Any] | None:
    """Return the lookups for an address or a network in CIDR form, None if the term is neither."""
    if "/" not in term:
        return {"address_key": key_of(term)} if key_of(term) else None
    try:
        first, last = keys_of_network(term)
    except ValueError:
        return None
    one = ipaddress.ip_network(term, strict=False).num_addresses == 1
    return {"address_key": first} if one else {"address_key__gte": first, "address_key__lte": last}


def is_used(field: str, text: str) -> bool:
    """Return whether any event has the text in this field; with other conditions, SQLite might use their indexes."""
    return AuditEvent.objects.filter(**{field: text}).order_by().exists()


def id_named(term: str) -> str:
    """Return the id of the row that the term names, such as a user by email, or an empty text."""
    return next((found for search in searchers if (found := search(term))), "")


def having_id(events: AuditEventQuerySet, text: str) -> AuditEventQuerySet:
    """Return the events with the text as a whole id.

    Fields without it are left out first: with one field left, its index also sorts the events.
    """
    text = text.lower() if len(text) == 36 else text
    fields = [name for name in NAMING_FIELDS if is_used(name, text)]
    return events.filter(Q(*((name, text) for name in fields), _connector=Q.OR)) if fields else events.none()
