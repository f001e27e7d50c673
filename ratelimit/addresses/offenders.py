"""Addresses that keep exceeding: halved for an hour, then blocked for a day. Each step is a row that operators see."""

import logging
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, IntegrityError
from django.utils import timezone

from ratelimit import rules
from ratelimit.addresses.client_address import address_bucket, parse
from ratelimit.engine.limiter import Decision
from ratelimit.models import AddressRule, as_network

logger = logging.getLogger(__name__)
HALVED_FOR = timedelta(hours=1)
BLOCKED_FOR = timedelta(hours=24)
Kind = AddressRule.Kind


def is_offence(decision: Decision) -> bool:
    """Return whether with this very request as many were refused as limit and burst admit: twice the limit within the
    window. Of all requests of a window it is true for one.
    """
    return decision.exact and decision.refused == decision.tier.requests_per_minute + decision.tier.burst_size


def punish(address: str, decision: Decision) -> None:
    """Halve the address's limits or, if they are halved, block it; allowed and denied networks stay as they are.

    Without the database the offence is logged alone.
    """
    if parse(address) is None:  # a unix socket's peer that names no client
        return
    network, now = as_network(address_bucket(address)), timezone.now()
    evidence: dict[str, Any] = {
        "tier": decision.tier.name, "refused": decision.refused, "limit": decision.tier.requests_per_minute,
        "burst": decision.tier.burst_size, "window_seconds": 60, "at": now.isoformat(timespec="seconds"),
    }  # fmt: skip
    logger.warning("address exceeds its limit", extra={"client": network})
    verdict = rules.verdict_on(address)
    if verdict is not None and verdict.kind in (Kind.ALLOW, Kind.DENY):
        return
    try:
        with rules.rules_cache.changing():
            if not escalate(network, evidence):
                begin(network, evidence)
    except DatabaseError as error:
        logger.error("offence not recorded", extra={"client": network, "error": type(error).__name__})  # noqa: TRY400


def escalate(network: str, evidence: dict[str, Any]) -> bool:
    """Block a network whose limits are halved; return whether they were."""
    now = timezone.now()
    halved = AddressRule.objects.in_force(now).filter(network=network, kind=Kind.HALVED)
    reason = "kept exceeding its halved limits"
    return bool(
        halved.update(kind=Kind.BLOCKED, reason=reason, evidence=evidence, created_at=now, expires_at=now + BLOCKED_FOR)
    )


def begin(network: str, evidence: dict[str, Any]) -> None:
    """Halve the limits of a network that has no rule in force; of parallel calls one does."""
    now = timezone.now()
    AddressRule.objects.filter(network=network, expires_at__lte=now).delete()
    try:
        AddressRule.objects.create(
            network=network, kind=Kind.HALVED, reason="twice its limit within a minute", evidence=evidence,
            expires_at=now + HALVED_FOR,
        )  # fmt: skip
    except IntegrityError:
        return
