"""Who a new rule would affect, as far as recent sign-ins show. Operators see this before they save the rule.

The gateway knows to which address it issued a refresh token, but not from where API keys are used. Reads are limited,
so that they are fast for any number of tokens; a count that reached the limit is a lower bound.
"""

import ipaddress
import itertools
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Q
from django.utils import timezone

from accounts.models import ApiKey, IssuedToken, IssuedTokenQuerySet, User
from lucid_gateway.kernel.env import Network
from lucid_gateway.operators.numbers import counted
from lucid_gateway.policy.roles import STAFF
from lucid_gateway.policy.tiers import ADMIN, TIERS, Counts
from ratelimit.client_address import address_bucket, parse
from ratelimit.models import as_network

SEEN_WITHIN = timedelta(days=1)
MAX_TOKENS = 10_000
# With fewer parts, such as 10.0.0.0/8, the addresses of a network may be too many to read them all.
PARTS_OF_A_NARROW_NETWORK = {4: 2, 6: 3}


@dataclass(frozen=True, slots=True)
class Affected:
    """Who a rule would affect; `text` says it in words.

    `users` counts the users who signed in or refreshed their tokens within a day, and `devices` their devices that are
    still signed in. If `at_least`, both are lower bounds. `text` names the user or the key of a rule for one of them.
    """

    text: str
    users: int = 0
    devices: int = 0
    at_least: bool = False


class Sighting(NamedTuple):
    """The fields of an IssuedToken that are read."""

    address: str
    user_id: uuid.UUID
    kind: str
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None
    used_at: datetime | None

    @property
    def is_signed_in(self) -> bool:
        return self.used_at is None and self.revoked_at is None and self.expires_at > timezone.now()


def affected_by_address_rule(network: str) -> Affected:
    """Return who a rule for the address or network would affect; raise django.core.exceptions.ValidationError."""
    wanted = ipaddress.ip_network(as_network(network))
    tokens, at_least = tokens_near(wanted)
    return affected_users([token for token in tokens if is_within(token, wanted)], at_least)


def affected_by_limit_rule(tier: str, subject: str) -> Affected:
    """Return who a limit rule would affect; its tier and subject are those of `ratelimit.models.LimitRule`."""
    if subject:
        return affected_subject(subject)
    if tier == ADMIN.name:
        staff = User.objects.filter(role__in=STAFF, is_active=True).count()
        return Affected(f"{counted(staff, 'staff account')}, and everyone who may read the metrics", users=staff)
    tokens, at_least = newest_tokens()
    if tier in TIERS and TIERS[tier].subject == Counts.ADDRESS:
        return affected_addresses(tokens, at_least)
    return affected_users(tokens, at_least)


def affected_subject(subject: str) -> Affected:
    """Return the one whom a rule for `user:<id>` or `key:<id>` would affect."""
    kind, _, name = subject.partition(":")
    if kind == "key":
        key = ApiKey.objects.filter(key_id=name).select_related("user").first()
        return Affected(f"The API key {key.name} of {key.user.email}", users=1) if key else Affected("Unknown API key")
    try:
        user = User.objects.filter(pk=uuid.UUID(name)).first()
    except ValueError:
        user = None
    return Affected(f"The user {user.email}", users=1) if user else Affected("Unknown user")


def tokens_near(network: Network) -> tuple[list[Sighting], bool]:
    """Return recent refresh tokens, those of the network among them, and whether some may be missing."""
    if network.num_addresses == 1:
        names = spellings(network.network_address)
        return read(IssuedToken.objects.filter(address__in=names, issued_at__gte=day_ago()).order_by())
    ranges = text_ranges(network)
    if not ranges:
        return newest_tokens()
    within = Q()
    for start, end in ranges:
        within |= Q(address__gte=start, address__lt=end)
    # No other filter: a database might choose its index instead, and read all tokens of the day.
    return read(IssuedToken.objects.filter(within).order_by())


def newest_tokens() -> tuple[list[Sighting], bool]:
    """Return the newest refresh tokens of the last day, and whether there are more."""
    rows = IssuedToken.objects.filter(kind=IssuedToken.Kind.REFRESH, issued_at__gte=day_ago())
    return read(rows.order_by("-issued_at"))


def read(rows: IssuedTokenQuerySet) -> tuple[list[Sighting], bool]:
    """Return the refresh tokens of the last day among the first rows, and whether there are more rows."""
    found = [Sighting(*row) for row in rows.values_list(*Sighting._fields)[: MAX_TOKENS + 1]]
    since = day_ago()
    recent = [token for token in found if token.kind == IssuedToken.Kind.REFRESH and token.issued_at >= since]
    return recent, len(found) > MAX_TOKENS


def spellings(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[str]:
    """Return the texts with which a token names the address; a socket for both versions maps IPv4 to IPv6."""
    return [str(address), f"::ffff:{address}"] if address.version == 4 else [str(address)]


def text_ranges(network: Network) -> list[tuple[str, str]]:
    """Return ranges of text, without their ends, that hold all addresses of the network and perhaps others.

    There are none for a wide network, and for an IPv6 network in which `::` may replace one of the first groups.
    """
    separator, bits = (".", 8) if network.version == 4 else (":", 16)
    parts = network.network_address.exploded.split(separator)[: network.prefixlen // bits]
    if network.version == 6:
        parts = [part.lstrip("0") for part in itertools.takewhile(lambda part: int(part, 16), parts)]
    if len(parts) < PARTS_OF_A_NARROW_NETWORK[network.version]:
        return []
    start, after = separator.join(parts), chr(ord(separator) + 1)
    prefixes = ("", "::ffff:") if network.version == 4 else ("",)
    return [(f"{prefix}{start}{separator}", f"{prefix}{start}{after}") for prefix in prefixes]


def is_within(token: Sighting, network: Network) -> bool:
    """Return whether the token was issued to an address of the network."""
    address = parse(token.address)
    return address is not None and address in network


def affected_users(tokens: Iterable[Sighting], at_least: bool) -> Affected:
    """Return the users and devices of the tokens."""
    found = list(tokens)
    users, devices = len({token.user_id for token in found}), sum(token.is_signed_in for token in found)
    if not users:
        among = f" among the {MAX_TOKENS:,} most recent sign-ins" if at_least else ""
        return Affected(f"No user was seen in the last day{among}", at_least=at_least)
    text = f"{counted(users, 'user')} seen in the last day, with {counted(devices, 'signed-in device')}"
    return Affected(f"At least {text}" if at_least else text, users, devices, at_least)


def affected_addresses(tokens: Iterable[Sighting], at_least: bool) -> Affected:
    """Return the addresses of the tokens, in words: the tier counts the requests of each address."""
    addresses = len({address_bucket(token.address) for token in tokens})
    known = f"{addresses:,} address" if addresses == 1 else f"{addresses:,} addresses"
    at_least_known = f"at least {known}" if at_least else known
    text = f"All clients, by address: users signed in from {at_least_known} in the last day"
    return Affected(text, at_least=at_least)


def day_ago() -> datetime:
    """Return the time one day ago."""
    return timezone.now() - SEEN_WITHIN
