"""What operators do to limits and address rules at run time, with its audit events."""

from datetime import datetime
from typing import Any

from django.db.models import Model

from lucid_gateway.audit.events import Changes, changed, record
from lucid_gateway.kernel.record import current_record
from lucid_gateway.policy.errors import NotFound, OperationNotAllowed
from ratelimit.models import AddressRule, LimitRule, as_network
from ratelimit.rules import REFUSED_KINDS, rules_cache, table_of


class LocksOut(OperationNotAllowed):
    """An address rule that would refuse the operator who makes it; `details.address` is the operator's address."""

    status, text = 409, "This network contains your own address: the rule would lock you out"


def set_address_rule(
    *,
    network: str,
    kind: str,
    reason: str,
    by: Model | str,
    expires_at: datetime | None = None,
    observe_only: bool = False,
) -> AddressRule:
    """Set the rule of a network, in place of the one it had; all workers follow within two seconds. Raises LocksOut.

    A rule that would `observe_only` refuses nobody.
    """
    new = AddressRule(network=as_network(network), kind=kind, expires_at=expires_at, observe_only=observe_only)
    new.clean()
    refuse_to_lock_out(new)
    fields: dict[str, Any] = {
        "kind": kind,
        "reason": reason,
        "expires_at": expires_at,
        "observe_only": observe_only,
        "created_by": str(by),
        "evidence": {},
    }
    with rules_cache.changing():
        before = AddressRule.objects.filter(network=as_network(network)).values(*CHANGING).first() or NO_RULE
        rule, _ = AddressRule.objects.update_or_create(network=as_network(network), defaults=fields)
    changes = changed(before, {name: fields[name] for name in CHANGING})
    record(
        "address.ruled", subject=rule.network, actor=by, rule=kind, reason=reason, until=iso_time(expires_at),
        changes=changes,
    )  # fmt: skip
    return rule


def refuse_to_lock_out(rule: AddressRule) -> None:
    """Raise LocksOut if the rule would refuse the operator who makes it. A command of `manage.py` has no address."""
    address = current_record().client_address
    if address and rule.kind in REFUSED_KINDS and not rule.observe_only:
        others = AddressRule.objects.in_force().filter(observe_only=False).exclude(network=rule.network)
        verdict = table_of([*others, rule]).find(address)
        if verdict is not None and verdict.kind in REFUSED_KINDS:
            raise LocksOut(details={"address": address})


def lift_address_rule(network: str, *, by: Model | str, why: str = "") -> None:
    """Remove the rule of a network; raise NotFound if it has none. The audit event keeps `why`."""
    rule = AddressRule.objects.filter(network=as_network(network)).first()
    if rule is None:
        raise NotFound()
    with rules_cache.changing():
        rule.delete()
    before = {name: getattr(rule, name) for name in CHANGING}
    changes = changed(before, NO_RULE)
    record(
        "address.lifted", subject=rule.network, actor=by, rule=rule.kind, reason=rule.reason, changes=changes,
        **reason_given(why),
    )  # fmt: skip


def extend_address_rule(rule: AddressRule, expires_at: datetime | None, *, by: Model | str, why: str = "") -> None:
    """Change only when the rule ends, so that the reason and the evidence stay; raise NotFound or LocksOut.

    The audit event keeps `why`.
    """
    kept = {name: getattr(rule, name) for name in ("network", "kind", "observe_only")}
    refuse_to_lock_out(AddressRule(**kept, expires_at=expires_at))
    changes, until = extend(rule, expires_at), iso_time(expires_at)
    record(
        "address.ruled", subject=rule.network, actor=by, rule=rule.kind, reason=rule.reason, until=until,
        changes=changes, **reason_given(why),
    )  # fmt: skip


def extend_limit_rule(rule: LimitRule, expires_at: datetime | None, *, by: Model | str, why: str = "") -> None:
    """Change only when the rule ends; raise NotFound. The audit event keeps `why`."""
    changes, who = extend(rule, expires_at), rule.subject or "everyone"
    record("limit.set", subject=who, actor=by, tier=rule.tier, changes=changes, **reason_given(why))


def extend(rule: LimitRule | AddressRule, expires_at: datetime | None) -> Changes:
    """Change when the rule ends; return the change for the audit log."""
    with rules_cache.changing():
        found = type(rule).objects.filter(pk=rule.pk).update(expires_at=expires_at)
    if not found:
        raise NotFound()
    return changed({"expires_at": rule.expires_at}, {"expires_at": expires_at})


def set_limit_rule(*, tier: str, subject: str, by: Model | str, **numbers: Any) -> LimitRule:
    """Set the limits of a subject, in place of those it had; all workers follow within two seconds."""
    fields = {**NO_NUMBERS, **numbers, "created_by": str(by)}
    LimitRule(tier=tier, subject=subject, **fields).full_clean(validate_unique=False, validate_constraints=False)
    with rules_cache.changing():
        before = LimitRule.objects.filter(tier=tier, subject=subject).values(*NO_NUMBERS).first() or NO_NUMBERS
        rule, _ = LimitRule.objects.update_or_create(tier=tier, subject=subject, defaults=fields)
    given = {name: value for name, value in numbers.items() if value is not None and name != "expires_at"}
    changes = changed(before, {name: fields[name] for name in NO_NUMBERS})
    record("limit.set", subject=subject or "everyone", actor=by, tier=tier, changes=changes, **given)
    return rule


def lift_limit_rule(*, tier: str, subject: str, by: Model | str, why: str = "") -> None:
    """Remove a limit rule, so that the environment's limits apply again; raise NotFound if it does not exist.

    The audit event keeps `why`.
    """
    with rules_cache.changing():
        before = LimitRule.objects.filter(tier=tier, subject=subject).values(*NO_NUMBERS).first()
        deleted, _ = LimitRule.objects.filter(tier=tier, subject=subject).delete()
    if not deleted or before is None:
        raise NotFound()
    changes = changed(before, NO_NUMBERS)
    record("limit.lifted", subject=subject or "everyone", actor=by, tier=tier, changes=changes, **reason_given(why))


def reason_given(why: str) -> dict[str, Any]:
    """Return the detail of an audit event that says why an operator did it, if the operator did."""
    return {"why": why} if why else {}


# What an operator may change of a rule for addresses.
NO_RULE: dict[str, Any] = {"kind": None, "reason": None, "expires_at": None, "observe_only": False}
CHANGING = tuple(NO_RULE)
NO_NUMBERS: dict[str, Any] = {
    "limit": None, "burst": None, "concurrent_requests": None, "daily_quota": None, "observe_only": False,
    "reason": "", "expires_at": None,
}  # fmt: skip


def iso_time(moment: datetime | None) -> str | None:
    """Return the time in the format of the audit log (ISO 8601)."""
    return moment.isoformat() if moment else None
