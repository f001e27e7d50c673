"""The rules that operators set at run time: limits for callers, and rules for addresses."""

import ipaddress
import uuid
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from lucid_gateway.policy.tiers import TIERS

SUBJECT = RegexValidator(r"\A(|user:[0-9a-f-]{36}|key:[a-z0-9]{12})\Z", "Expected user:<id>, key:<id>, or nothing.")


def is_past(moment: datetime | None) -> bool:
    """Return whether the time is past; None never is."""
    return moment is not None and moment <= timezone.now()


class InForce(models.QuerySet[Any]):
    """Reads of rules that may expire."""

    def in_force(self, now: datetime | None = None) -> "InForce":
        """Return the rules that have not expired."""
        return self.filter(models.Q(expires_at=None) | models.Q(expires_at__gt=now or timezone.now()))


# The tier of rules for quota and concurrent requests, which are counted over all tiers.
ALL_TIERS = "all"


def tier_choices() -> list[tuple[str, str]]:
    """Return the choices of a limit rule's tier: each tier, and all of them together."""
    return [(tier.name, tier.label) for tier in TIERS.values()] + [(ALL_TIERS, "All tiers (quota and concurrency)")]


class LimitRule(models.Model):
    """Limits for a user, an API key or everyone, in place of the environment's; an empty field changes nothing."""

    rule_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tier = models.CharField(max_length=20, choices=tier_choices)
    subject = models.CharField(
        max_length=64, blank=True, validators=[SUBJECT], help_text="user:ID or key:ID; empty for everyone"
    )
    limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="Requests per minute; for chunk uploads, bytes per second"
    )
    burst = models.PositiveIntegerField(null=True, blank=True, help_text="Requests; for chunk uploads, bytes")
    concurrent_requests = models.PositiveIntegerField(
        null=True, blank=True, help_text="Concurrent requests; all tiers only"
    )
    daily_quota = models.PositiveIntegerField(null=True, blank=True, help_text="Requests per day (UTC); all tiers only")
    observe_only = models.BooleanField(default=False, help_text="Shadow mode: count and log, but refuse nothing")
    reason = models.CharField(max_length=200, blank=True)
    created_by = models.CharField(max_length=254, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)

    objects = InForce.as_manager()

    class Meta:
        ordering = ["tier", "subject"]
        indexes = [models.Index(fields=["rule_id"], name="limit_rule_key")]
        constraints = [models.UniqueConstraint(fields=["tier", "subject"], name="one_limit_rule")]

    def __str__(self) -> str:
        return f"{self.tier} for {self.subject or 'everyone'}"

    def clean(self) -> None:
        """Refuse a rule that mixes a rate, which is for one tier, with totals, which are for all tiers together."""
        rates, totals = (self.limit, self.burst), (self.concurrent_requests, self.daily_quota)
        misplaced = rates if self.tier == ALL_TIERS else totals
        if any(value is not None for value in misplaced):
            raise ValidationError("Quota and concurrency are for all tiers together, limit and burst for one tier.")
        if self.limit == 0:
            raise ValidationError({"limit": "Expected 1 or more."})


def as_network(text: str) -> str:
    """Return an address or network in its canonical form, an IPv4-mapped one as IPv4; raise ValidationError."""
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise ValidationError("Expected an address or a network such as 192.0.2.0/24.", code="invalid") from error
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return str(ipaddress.IPv4Network((mapped, network.prefixlen - 96)))
    return str(network)


class AddressRule(models.Model):
    """What happens to requests from a network. Rules that the gateway made itself have no `created_by`."""

    class Kind(models.TextChoices):
        ALLOW = "allow", "Allowed: never halved or blocked, not limited by address"
        DENY = "deny", "Denied"
        HALVED = "halved", "Halved limits"
        BLOCKED = "blocked", "Blocked for a while"

    rule_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    network = models.CharField(max_length=50, unique=True, help_text="An address or a network, such as 192.0.2.0/24")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    observe_only = models.BooleanField(
        default=False, help_text="Shadow mode: count whom the rule would refuse, but refuse nobody"
    )
    reason = models.CharField(max_length=200)
    evidence = models.JSONField(default=dict, blank=True, editable=False)
    refused = models.PositiveBigIntegerField(default=0, editable=False, help_text="Requests refused by this rule")
    observed = models.PositiveBigIntegerField(
        default=0, editable=False, help_text="Requests that this rule would have refused in shadow mode"
    )
    created_by = models.CharField(max_length=254, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False, db_index=True)
    expires_at = models.DateTimeField(null=True, blank=True, db_index=True)

    objects = InForce.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["rule_id"], name="address_rule_key"),
            models.Index(fields=["network"], name="address_rule_network"),
        ]

    def __str__(self) -> str:
        return f"{self.network} {self.kind}"

    def clean(self) -> None:
        """Store the network in its canonical form; refuse shadow mode for a rule that refuses nobody anyway."""
        if self.network:  # otherwise the check of the field reports it
            self.network = as_network(self.network)
        if self.observe_only and self.kind not in (self.Kind.DENY, self.Kind.BLOCKED):
            raise ValidationError({"observe_only": "Only a rule that denies or blocks has a shadow mode."})
