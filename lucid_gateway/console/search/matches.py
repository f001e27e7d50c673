"""What can be found, and how: each finder makes at most four queries, each by an index."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError

from accounts.affected import spellings
from accounts.directory import keys_called
from accounts.models import IssuedToken, SigningKey, User
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.explorer.conditions import of_network
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.kernel.addresses import key_of
from lucid_gateway.operators import links
from lucid_gateway.operators.search import AFTER_ALL, HYPHENATED, JTI
from ratelimit.client_address import parse
from ratelimit.models import AddressRule, as_network
from ratelimit.rules import address_verdict
from sessions_api.models import Manifest, Session, TrustPolicy

MAX_MATCHES = 10  # of one kind
KID = re.compile(r"[0-9A-Za-z_-]{8,64}")
REQUEST_ID = re.compile(r"[0-9A-Za-z._-]{3,128}")


@dataclass(frozen=True)
class Match:
    """Something that was found: its kind, its name, the address of its page, and what else helps to recognize it."""

    kind: str
    title: str
    url: str
    note: str = ""


def matches_of(text: str) -> list[Match]:
    """Return what the text may mean; matches whose page this gateway does not have are left out."""
    return [match for find in FINDERS for match in find(text) if match.url]


def users(text: str) -> Iterator[Match]:
    """Find users by id, by email, and by the beginning of an email or username."""
    found = list(User.objects.filter(pk=text)) if HYPHENATED.fullmatch(text) else users_called(text.lower())
    for user in found:
        yield Match("Users", user.email, links.page("accounts_user_change", user.pk), user.get_role_display())


def users_called(text: str) -> list[User]:
    """Return the one user with this email, or the first users whose email or username begins with the text."""
    exact = list(User.objects.filter(email=text))
    if exact or " " in text:
        return exact
    found: dict[Any, User] = {}
    for field in ("username", "email"):
        beginning = User.objects.filter(**{f"{field}__gte": text, f"{field}__lt": text + AFTER_ALL})
        found |= {user.pk: user for user in beginning.order_by(field)[:MAX_MATCHES]}
    return list(found.values())[:MAX_MATCHES]


def api_keys(text: str) -> Iterator[Match]:
    """Find API keys by prefix, id or whole name."""
    for key in keys_called(text):
        yield Match("API keys", str(key), links.page("accounts_apikey_change", key.pk), key.user.email)


def tokens(text: str) -> Iterator[Match]:
    """Find a token by its id, and a login by its token family."""
    if JTI.fullmatch(text.lower()):
        for token in IssuedToken.objects.filter(pk=text.lower()):
            page = links.page("accounts_issuedtoken_change", token.pk)
            yield Match("Tokens", f"{token.kind} token", page, token.user.email)
    if HYPHENATED.fullmatch(text):
        newest = IssuedToken.objects.filter(family=text).order_by("-issued_at")[:1]
        for token in newest:
            page = links.page("accounts_issuedtoken_changelist", q=text)
            yield Match("Tokens", "The tokens of a login", page, token.user.email)


def recordings(text: str) -> Iterator[Match]:
    """Find sessions, manifests and trust policies by id."""
    if not HYPHENATED.fullmatch(text):
        return
    for session in Session.objects.filter(pk=text):
        yield Match("Recordings", session.name, links.page("sessions_api_session_change", session.pk), "session")
    for manifest in Manifest.objects.filter(pk=text):
        yield Match("Recordings", str(manifest), links.page("sessions_api_manifest_change", manifest.pk), "manifest")
    for policy in TrustPolicy.objects.filter(pk=text):
        yield Match("Recordings", policy.name, links.page("sessions_api_trustpolicy_change", policy.pk), "trust policy")


def signing_keys(text: str) -> Iterator[Match]:
    """Find a signing key by its id."""
    if KID.fullmatch(text):
        for key in SigningKey.objects.filter(pk=text):
            yield Match("Signing keys", key.kid, links.page("accounts_signingkey_change", key.pk), key.state)


def requests(text: str) -> Iterator[Match]:
    """Find a request by its id; the audit events stand in for a request that is no longer kept."""
    if not REQUEST_ID.fullmatch(text):
        return
    kept = KeptRequest.objects.filter(request_id=text).order_by("-kept_id").first()
    page = links.page("request", text) if kept else ""
    if kept and page:
        yield Match("Requests", str(kept), page, text)
    elif AuditEvent.objects.filter(request_id=text).order_by().exists():
        yield Match("Requests", text, links.page("audit_auditevent_changelist", q=text), "its audit events")


def addresses(text: str) -> Iterator[Match]:
    """Find what came from an address, and the rule that applies to it."""
    address = parse(text)
    if address is None:
        return
    name = str(address)
    verdict = address_verdict(name)
    if verdict:
        yield from rules(verdict.network)
    found = list(origins(name, spellings(address)))
    yield from found
    if found and not verdict:
        yield Match("Addresses", f"Block {name}…", links.block_page(name), "no rule applies")


def origins(name: str, spelled: list[str]) -> Iterator[Match]:
    """Yield the lists of what came from the address, those that are not empty."""
    if KeptRequest.objects.filter(**of_network(name).lookups()).order_by().exists():
        yield Match("Addresses", f"Requests from {name}", links.requests_page(address=name))
    if IssuedToken.objects.filter(address__in=spelled).order_by().exists():
        yield Match("Addresses", f"Tokens issued to {name}", links.page("accounts_issuedtoken_changelist", q=name))
    if AuditEvent.objects.filter(address_key=key_of(name)).order_by().exists():
        yield Match("Addresses", f"Audit events from {name}", links.page("audit_auditevent_changelist", q=name))


def networks(text: str) -> Iterator[Match]:
    """Find the rule of a network, and the requests from it."""
    if "/" not in text:
        return
    try:
        network = as_network(text)
    except ValidationError:
        return
    yield from rules(network)
    if KeptRequest.objects.filter(**of_network(network).lookups()).order_by().exists():
        yield Match("Addresses", f"Requests from {network}", links.requests_page(network=network))


def rules(network: str) -> Iterator[Match]:
    """Yield the rule for exactly this network."""
    for rule in AddressRule.objects.filter(network=network):
        page = links.page("ratelimit_addressrule_change", rule.pk)
        yield Match("Addresses", f"Rule for {rule.network}", page, rule.get_kind_display())


FINDERS: tuple[Callable[[str], Iterator[Match]], ...] = (
    users, api_keys, tokens, requests, addresses, networks, recordings, signing_keys,
)  # fmt: skip
