"""Addresses that keep exceeding their limit: halved for an hour, then blocked for a day. Operators see each step."""

import logging
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, IntegrityError
from django.utils import timezone

from ratelimit import rules
from ratelimit.client_address import address_bucket, parse
from ratelimit.engine.limiter import Decision
from ratelimit.models import AddressRule, as_network

logger = logging.getLogger(__name__)
HALVED_FOR = timedelta(hours=1)
BLOCKED_FOR = timedelta(hours=24)
Kind = AddressRule.Kind


def is_offence(decision: Decision) -> bool:
    """Return whether the refused requests of the window have just reached limit plus burst: the address has sent twice
    what is admitted. This is true for exactly one request of a window.
    """
    return decision.exact and decision.refused == decision.limit.requests_per_minute + decision.limit.burst_size


def punish(address: str, decision: Decision) -> None:
    """Halve the limits of the address or, if they are halved, block it; allowed and denied networks do not change.

    While the database is unavailable the offence is only logged.
    """
    if parse(address) is None:  # the peer of a unix socket did not name a client
        return
    network, now = as_network(address_bucket(address)), timezone.now()
    evidence: dict[str, Any] = {
        "tier": decision.tier_name, "refused": decision.refused, "limit": decision.limit.requests_per_minute,
        "burst": decision.limit.burst_size, "window_seconds": 60, "at": now.isoformat(timespec="seconds"),
    }  # fmt: skip
    logger.warning("address exceeds its limit", extra={"client": network})
    verdict = rules.address_verdict(address)
    if verdict is not None and verdict.kind in (Kind.ALLOW, Kind.DENY):
        return
    try:
        with rules.rules_cache.changing():
            if not block_if_halved(network, evidence):
                halve(network, evidence)
    except DatabaseError as error:
        logger.error("offence not recorded", extra={"client": network, "error": type(error).__name__})  # noqa: TRY400


def block_if_halved(network: str, evidence: dict[str, Any]) -> bool:
    """Block the network if its limits are halved; return whether they were."""
    now = timezone.now()
    halved = AddressRule.objects.in_force(now).filter(network=network, kind=Kind.HALVED)
    reason = "kept exceeding its halved limits"
    return bool(
        halved.update(kind=Kind.BLOCKED, reason=reason, evidence=evidence, created_at=now, expires_at=now + BLOCKED_FOR)
    )


def halve(network: str, evidence: dict[str, Any]) -> None:
    """Halve the limits of a network without a rule in force; of parallel calls one makes the rule."""
    now = timezone.now()
    AddressRule.objects.filter(network=network, expires_at__lte=now).delete()
    try:
        AddressRule.objects.create(
            network=network, kind=Kind.HALVED, reason="twice its limit within a minute", evidence=evidence,
            expires_at=now + HALVED_FOR,
        )  # fmt: skip
    except IntegrityError:
        return
