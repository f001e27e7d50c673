"""Alarms about accounts and callers: reused tokens, many lockouts, punished networks and old signing keys."""

import ipaddress
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.utils import timezone

from accounts.models import SigningKey, User
from accounts.tokens.signing_keys import ROTATE_AFTER
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.console.alarms.alarm import BAD, WARN, Alarm, links, named, remedy
from lucid_gateway.figures.reading import LATELY_SECONDS, LOGIN_FAILURES, read_lately
from lucid_gateway.operators.links import events_page, page, requests_page, time_of
from lucid_gateway.operators.numbers import counted
from ratelimit.models import AddressRule

REUSED_WITHIN = timedelta(hours=24)
MOST_USERS, MOST_EVENTS = 5, 200
LOCKOUT_SURGE = 10  # in ten minutes
REMIND_OF_ROTATION = timedelta(days=14)  # before it is due
Kinds = AddressRule.Kind


def reused_tokens() -> Iterator[Alarm]:
    """Yield an alarm for each user with refresh tokens that were used twice in the last day, the latest first."""
    since = timezone.now() - REUSED_WITHIN
    events = AuditEvent.objects.filter(type="token.reused", created_at__gte=since).order_by("-created_at")
    times: dict[str, list[datetime]] = defaultdict(list)
    for subject, moment in events.values_list("subject", "created_at")[:MOST_EVENTS]:
        times[subject].append(moment)
    emails = {str(pk): email for pk, email in User.objects.filter(pk__in=list(times)).values_list("pk", "email")}
    for subject, moments in list(times.items())[:MOST_USERS]:
        yield reused_tokens_of(subject, emails.get(subject, subject), moments)
    if len(times) > MOST_USERS:
        yield Alarm(
            "token_reuse", BAD, f"Refresh tokens of {len(times) - MOST_USERS} more users were used twice",
            "Somebody may have stolen many tokens. Consider rotating the signing keys.",
            links=links(("All events", events_page("token.reused", since=time_of(since.timestamp())))),
            remedy=remedy("Signing keys", page("accounts_signingkey_changelist")),
        )  # fmt: skip


def reused_tokens_of(subject: str, email: str, moments: list[datetime]) -> Alarm:
    one = len(moments) == 1
    tokens = f"A refresh token of {email} was" if one else f"{len(moments)} refresh tokens of {email} were"
    since = time_of((timezone.now() - REUSED_WITHIN).timestamp())
    return Alarm(
        "token_reuse", BAD, f"{tokens} used twice",
        f"Somebody may have a copy. The gateway has ended {'this login' if one else 'these logins'}. Ask the user, or"
        " lock the account.",
        since=moments[0],
        since_word="Last at",
        links=links(
            ("Events", events_page("token.reused", since=since, q=subject)),
            ("Requests", requests_page(user=subject, since="24h")),
        ),
        remedy=remedy("Review user", page("accounts_user_change", subject)),
    )  # fmt: skip


def many_lockouts() -> Iterator[Alarm]:
    """Yield an alarm if ten lockouts began within ten minutes."""
    lately, since = read_lately(), time_of(time.time() - LATELY_SECONDS)
    begun = lately.groups.get("events", {}).get("lockout.started", 0)
    if begun >= LOCKOUT_SURGE:
        yield Alarm(
            "lockouts", BAD, f"{begun} lockouts began in the last ten minutes",
            f"Somebody may be guessing passwords: {lately.login_failures:,} logins failed in that time. If they come"
            " from one network, block it.",
            links=links(
                ("Lockouts", page("accounts_automaticlockout_changelist")),
                ("Failed logins", events_page(*LOGIN_FAILURES, since=since)),
            ),
            remedy=remedy("Requests that were refused", requests_page(reason="too_many_attempts", since="1h")),
        )  # fmt: skip


def punished_networks() -> Iterator[Alarm]:
    """Yield an alarm for the networks that the gateway itself has blocked, and one for those that it has halved."""
    rules = AddressRule.objects.in_force().filter(created_by="", kind__in=[Kinds.HALVED, Kinds.BLOCKED])
    found: dict[str, list[AddressRule]] = defaultdict(list)
    for rule in rules.order_by("-created_at")[:MOST_EVENTS]:
        found[rule.kind].append(rule)
    for kind, done in ((Kinds.BLOCKED, "blocked"), (Kinds.HALVED, "halved the limits of")):
        if found[kind]:
            yield punished(found[kind], kind, done)


def punished(rules: list[AddressRule], kind: str, done: str) -> Alarm:
    names = [address_or_network(rule.network) for rule in rules]
    it, rule, requests = (
        ("It", "the rule", "Requests") if len(names) == 1 else ("They", "a rule", "Requests of the last")
    )
    return Alarm(
        f"networks_{kind}", WARN, f"The gateway has {done} {named(names)}",
        f"{it} kept sending far more requests than the limit allows. Lift {rule} if that was no attack.",
        since=rules[0].created_at,
        since_word="Since" if len(names) == 1 else "Last at",
        links=links(
            (requests, requests_page(network=rules[0].network, since="24h")),
            ("Rules", page("ratelimit_addressrule_changelist", kind__exact=kind)),
        ),
        remedy=remedy("Review rule", page("ratelimit_addressrule_change", rules[0].pk)),
    )  # fmt: skip


def address_or_network(text: str) -> str:
    """Return a network, or the address of a network that has only one."""
    network = ipaddress.ip_network(text)
    return str(network.network_address) if network.num_addresses == 1 else text


def old_signing_key() -> Iterator[Alarm]:
    """Yield an alarm two weeks before the active key is due for rotation."""
    for key in SigningKey.objects.filter(state=SigningKey.State.ACTIVE):
        signs_since = key.activated_at or key.created_at
        left = signs_since + ROTATE_AFTER - timezone.now()
        if left <= REMIND_OF_ROTATION:
            yield Alarm(
                "signing_key", WARN, f"The signing key {key.kid} {due(left)}",
                f"A key should sign for at most {ROTATE_AFTER.days} days. Rotate it: nobody is signed out by that.",
                since=signs_since,
                since_word="It has signed since",
                remedy=remedy("Signing keys", page("accounts_signingkey_changelist")),
            )  # fmt: skip


def due(left: timedelta) -> str:
    """Return in words when a rotation is or was due."""
    days = round(abs(left) / timedelta(days=1))
    if days == 0:
        return "is due for rotation today"
    if left < timedelta():
        return f"was due for rotation {counted(days, 'day')} ago"
    return f"is due for rotation in {counted(days, 'day')}"
