"""The decision of a preview in one or two sentences."""

from collections.abc import Callable, Mapping
from typing import Any

from lucid_gateway.console.preview.decision import Preview
from lucid_gateway.console.preview.question import METHODS
from lucid_gateway.console.preview.steps import State, StepView
from lucid_gateway.policy.errors import GatewayError
from lucid_gateway.policy.reasons import REASONS
from ratelimit.engine.limiter import Decision

MINUTE, HOUR, DAY = 60, 3_600, 86_400


def sentence_of(preview: Preview, steps: list[StepView]) -> str:
    """Return what would happen."""
    if preview.error is not None:
        return f"It would be refused with {preview.error.status}: {why(preview, preview.error)}"
    to = f"sent to the cluster {preview.route.cluster}" if preview.route else "answered by the gateway itself"
    text = f"It would be let in, and {to}."
    observed = [step.name.lower() for step in steps if step.state == State.OBSERVED]
    if observed:
        text = f"{text} Without shadow mode it would be refused by: {', '.join(observed)}."
    unknown = [step.name.lower() for step in steps if step.state == State.UNKNOWN]
    return f"{text} Not known: {', '.join(unknown)}." if unknown else text


def why(preview: Preview, error: GatewayError) -> str:
    """Return why the request would be refused, with the facts that staff may know."""
    facts: Mapping[str, Any] = preview.record.facts or {}
    special = WORDS.get(error.reason)
    text = special(preview, facts) if special else REASONS[error.reason].text
    if error.retry_after is not None and error.status in (429, 503):
        return f"{text} The next request may pass in {duration(error.retry_after)}."
    return text


def rule_of_address(preview: Preview, facts: Mapping[str, Any]) -> str:
    word = "blocks" if facts.get("until") else "denies"
    return f"A rule {word} {facts['network']}."


def tier_exhausted(preview: Preview, facts: Mapping[str, Any]) -> str:
    limit = [found for found in preview.looks if isinstance(found, Decision)][-1].limit
    return (
        f"The tier {limit.name} is used up: {limit.requests_per_minute:,} requests a minute and a burst of "
        f"{limit.burst_size:,}."
    )


def account_locked(preview: Preview, facts: Mapping[str, Any]) -> str:
    reason = f" ({facts['lock_reason']})" if facts.get("lock_reason") else ""
    by = facts.get("locked_by") or "Staff"
    return f"{by} locked the account{reason}."


def permission_missing(preview: Preview, facts: Mapping[str, Any]) -> str:
    if facts.get("needs") == "access_token":
        return "An API key may not do this; it needs a token of a login."
    holder = f"the role {preview.caller.role}" if preview.caller and not preview.caller.by_api_key else "the API key"
    needed = facts.get("permission")
    return f"{holder.capitalize()} lacks the permission {needed}." if needed else REASONS["permission_missing"].text


def method_not_allowed(preview: Preview, facts: Mapping[str, Any]) -> str:
    allowed = [method for method in preview.view.allowed_methods if method in METHODS]
    return f"The path allows only {', '.join(allowed)}."


def in_maintenance(preview: Preview, facts: Mapping[str, Any]) -> str:
    return f"Operators took the cluster {preview.record.cluster} out of service."


WORDS: Mapping[str, Callable[[Preview, Mapping[str, Any]], str]] = {
    "address_denied": rule_of_address,
    "address_blocked": rule_of_address,
    "tier_exhausted": tier_exhausted,
    "account_locked": account_locked,
    "permission_missing": permission_missing,
    "method_not_allowed": method_not_allowed,
    "cluster_in_maintenance": in_maintenance,
}


def duration(seconds: int) -> str:
    """Return a duration such as `1 second`, `42 seconds`, `3 minutes` or `5 hours`, rounded up."""
    for size, noun in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if seconds >= 2 * size:
            count = -(-seconds // size)
            return f"{count} {noun}s"
    return "1 second" if seconds == 1 else f"{seconds} seconds"
