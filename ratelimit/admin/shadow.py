"""Whom rules and limits in shadow mode would have refused, for the operator pages."""

from dataclasses import dataclass
from urllib.parse import urlencode

from django.urls import NoReverseMatch, reverse

from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.operators.directory import Directory, Name
from ratelimit.engine.shadow import shadow_subjects_today

SHOWN = 10
ADDRESS = "ip:"


@dataclass(frozen=True, slots=True)
class Observed:
    """Someone whose requests would have been refused, and how many of today (UTC)."""

    who: Name
    count: int


def observed_today(directory: Directory, scope: str) -> list[Observed]:
    """Return whom the scope would have refused most often today; without Redis nobody is known."""
    try:
        found = shadow_subjects_today(scope, SHOWN)
    except RedisUnavailable:
        return []
    names = directory.names_of([subject for subject, _ in found if not subject.startswith(ADDRESS)])
    return [Observed(names.get(subject) or name_of(subject), count) for subject, count in found]


def name_of(subject: str) -> Name:
    """Return the address with a link to its requests, or the subject itself if its user or key was deleted."""
    if not subject.startswith(ADDRESS):
        return Name(subject)
    address = subject.removeprefix(ADDRESS)
    try:
        requests = reverse("admin:requests")
    except NoReverseMatch:
        return Name(address)
    return Name(address, f"{requests}?{urlencode({'network' if '/' in address else 'address': address})}")
