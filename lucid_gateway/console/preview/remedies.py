"""The pages on which staff can change what refuses a request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lucid_gateway.console.preview.decision import Preview
from lucid_gateway.operators.links import change_page, page
from lucid_gateway.policy.tiers import TIERS, Counts
from ratelimit.engine.bandwidth import BandwidthDecision
from ratelimit.engine.limiter import Decision
from ratelimit.models import ALL_TIERS, AddressRule, LimitRule
from ratelimit.rules import rule_for


@dataclass(frozen=True, slots=True)
class Remedy:
    """A link to a page, with what can be done there."""

    label: str
    url: str


def remedies_of(preview: Preview) -> list[Remedy]:
    """Return the links for what refuses the request, or would refuse it without shadow mode."""
    reasons = [entry.reason for entry in preview.record.steps if entry.reason is not None]
    return [remedy for reason in dict.fromkeys(reasons) for remedy in REMEDIES.get(reason, no_remedy)(preview)]


def no_remedy(preview: Preview) -> list[Remedy]:
    return []


def address_rule(preview: Preview) -> list[Remedy]:
    rule = AddressRule.objects.filter(network=preview.rule.network).first() if preview.rule else None
    return [Remedy(f"Lift or change the rule for {rule.network}", change_page(rule))] if rule else []


def account(preview: Preview) -> list[Remedy]:
    user = preview.question.user or (preview.question.key.user if preview.question.key else None)
    return [Remedy("Open the user", change_page(user))] if user else []


def api_key(preview: Preview) -> list[Remedy]:
    key = preview.question.key
    return [Remedy("Open the API key", change_page(key))] if key else account(preview)


def tier(preview: Preview) -> list[Remedy]:
    """Return the link to the rule that sets the tier's limit, or to a new one."""
    name = next((found.tier_name for found in reversed(preview.looks) if isinstance(found, Decision)), None)
    return limit_rule(preview, name) if name else []


def bandwidth(preview: Preview) -> list[Remedy]:
    name = next((found.tier_name for found in preview.looks if isinstance(found, BandwidthDecision)), None)
    return limit_rule(preview, name) if name else []


def totals(preview: Preview) -> list[Remedy]:
    return limit_rule(preview, ALL_TIERS)


def limit_rule(preview: Preview, tier_name: str) -> list[Remedy]:
    """Return the link to the rule that applies to the caller or to everyone, or to the form for a new one."""
    by_address = tier_name in TIERS and TIERS[tier_name].subject == Counts.ADDRESS
    subjects = [preview.caller.bucket] if preview.caller and not by_address else []
    found = rule_for(tier_name, subjects)
    if found is not None and LimitRule.objects.filter(pk=found.pk).exists():
        whose = {"": "everyone", "user": "this user", "key": "this key"}[found.subject.partition(":")[0]]
        return [Remedy(f"Change the limit of {whose}", change_page(found))]
    subject = subjects[0] if subjects else ""
    return [Remedy("Set another limit", page("ratelimit_limitrule_add", tier=tier_name, subject=subject))]


def clusters(preview: Preview) -> list[Remedy]:
    return [Remedy("Open the clusters", page("proxy_maintenance_changelist"))]


REMEDIES: Mapping[str, Callable[[Preview], list[Remedy]]] = {
    "address_denied": address_rule,
    "address_blocked": address_rule,
    "account_locked": account,
    "account_deleted": account,
    "epoch_over": account,
    "token_revoked": account,
    "api_key_unknown": api_key,
    "api_key_expired": api_key,
    "api_key_suspended": api_key,
    "permission_missing": api_key,
    "tier_exhausted": tier,
    "bandwidth_exhausted": bandwidth,
    "quota_exhausted": totals,
    "too_many_concurrent": totals,
    "cluster_in_maintenance": clusters,
    "cluster_busy": clusters,
    "breaker_open": clusters,
    "cluster_not_configured": clusters,
}
