"""Names for the ids of audit events. The apps that have the rows register how to find them."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from lucid_gateway.audit.events import UUID
from lucid_gateway.audit.kinds import KINDS, Concerns
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.operators.directory import Name
from lucid_gateway.operators.links import page
from lucid_gateway.operators.search import KEY_ID

API_KEY = "api_key"
# What an event concerns -> the page of its subject, by its id.
PAGES: dict[str, str] = {
    Concerns.USER: "accounts_user_change",
    Concerns.SESSION: "sessions_api_session_change",
    Concerns.MANIFEST: "sessions_api_manifest_change",
    Concerns.TRUST_POLICY: "sessions_api_trustpolicy_change",
    API_KEY: "accounts_apikey_change",
}
# What an event concerns -> the list on which its subject is found by its name.
LISTS: dict[str, str] = {
    Concerns.ADDRESS: "ratelimit_addressrule_changelist",
    Concerns.CLUSTER: "proxy_maintenance_changelist",
    Concerns.ROUTE: "routes",
    Concerns.SIGNING_KEY: "accounts_signingkey_changelist",
}


# A kind of row and an id.
Reference = tuple[str, str]
# Functions that return texts by id; None means that the account is deleted.
finders: dict[str, Callable[[set[str]], dict[str, str | None]]] = {}
# Functions that return the id of the row that a text names exactly, or an empty text.
searchers: list[Callable[[str], str]] = []


def actor_of(event: AuditEvent) -> Reference:
    return (Concerns.USER, event.actor)


def subject_of(event: AuditEvent) -> Reference:
    """Return the subject; that of a limit is a user or an API key."""
    kind = KINDS.get(event.type)  # None for a type of an earlier release that no longer exists
    concerns = kind.concerns if kind else ""
    if concerns == Concerns.LIMIT:
        who, _, key = event.subject.partition(":")
        return {"user": (Concerns.USER, key), "key": (API_KEY, key)}.get(who, (Concerns.LIMIT, event.subject))
    return (concerns, event.subject)


def names_of(references: Iterable[Reference]) -> dict[Reference, Name]:
    """Return the name of each row: one query for each kind of row."""
    ids: dict[str, set[str]] = defaultdict(set)
    for kind, key in references:
        ids[kind].add(key)
    return {
        (kind, key): name_of(kind, key, found)
        for kind, keys in ids.items()
        for found in [find(kind, keys)]
        for key in keys
    }


def find(kind: str, keys: set[str]) -> dict[str, str | None]:
    """Return the texts of those rows that exist."""
    pattern = KEY_ID if kind == API_KEY else UUID
    usable = {key for key in keys if pattern.fullmatch(key)}
    return finders[kind](usable) if usable and kind in finders else {}


def name_of(kind: str, key: str, found: dict[str, str | None]) -> Name:
    if key in found:
        text = found[key]
        return Name(text or "deleted account", page(PAGES[kind], key), is_gone=text is None)
    if kind in PAGES and kind not in finders and UUID.fullmatch(key):
        return Name(key, page(PAGES[kind], key))
    return Name(key, page(LISTS[kind], q=key) if kind in LISTS and key else "")
