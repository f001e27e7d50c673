"""Whom rules and limits in shadow mode would have refused, for the operator pages."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.operators.directory import Directory, Name
from lucid_gateway.operators.links import requests_page
from ratelimit.engine.shadow import counts_today, shadow_subjects_today, tier_scope
from ratelimit.models import ALL_TIERS, LimitRule

SHOWN, SHOWN_BY_TIER = 10, 3
ADDRESS = "ip:"


@dataclass(frozen=True, slots=True)
class Observed:
    """Someone whose requests would have been refused, and how many of today (UTC)."""

    who: Name
    count: int


def observed_today(directory: Directory, scope: str, subject: str = "") -> list[Observed]:
    """Return whom the scope would have refused most often today, or only the subject; without Redis nobody is known."""
    try:
        found = [(subject, counts_today([(scope, subject)])[0])] if subject else shadow_subjects_today(scope, SHOWN)
    except RedisUnavailable:
        return []
    names = directory.names_of([subject for subject, _ in found if not subject.startswith(ADDRESS)])
    return [Observed(names.get(who) or name_of(who), count) for who, count in found if count]


def observed_by_tier(directory: Directory, tiers: Iterable[str]) -> list[tuple[str, Observed]]:
    """Return whom the limits of each tier would have refused most often today; raise RedisUnavailable."""
    found = [(tier, *one) for tier in tiers for one in shadow_subjects_today(tier_scope(tier), SHOWN_BY_TIER)]
    names = directory.names_of([subject for _, subject, _ in found if not subject.startswith(ADDRESS)])
    return [(tier, Observed(names.get(subject) or name_of(subject), count)) for tier, subject, count in found]


def refused_by(rules: Sequence[LimitRule], of_tiers: Mapping[str, int]) -> dict[uuid.UUID, int]:
    """Return how many requests of today each rule in shadow mode would have refused; raise RedisUnavailable.

    `of_tiers` has the counts of all requests in a tier, which are those of a rule for everyone.
    """
    found = {rule.pk: of_tiers.get(rule.tier, 0) for rule in rules if rule.observe_only and rule.tier != ALL_TIERS}
    single = [rule for rule in rules if rule.pk in found and rule.subject]
    counts = counts_today([(tier_scope(rule.tier), rule.subject) for rule in single]) if single else []
    return found | {rule.pk: count for rule, count in zip(single, counts, strict=True)}


def name_of(subject: str) -> Name:
    """Return the address with a link to its requests, or the subject itself if its user or key was deleted."""
    if not subject.startswith(ADDRESS):
        return Name(subject)
    address = subject.removeprefix(ADDRESS)
    return Name(address, requests_page(**{"network" if "/" in address else "address": address}))
