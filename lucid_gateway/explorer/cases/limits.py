"""The limits that were applied to a request."""

from datetime import UTC, datetime
from functools import cached_property

from django.utils.html import format_html
from django.utils.safestring import SafeString

from lucid_gateway.explorer.cases.caller import CallerWords
from lucid_gateway.explorer.naming import link
from lucid_gateway.explorer.words import clock, number
from lucid_gateway.operators.links import page
from lucid_gateway.operators.numbers import size, thousands
from lucid_gateway.policy.tiers import TIERS
from ratelimit.models import LimitRule

TOTALS = ("quota_exhausted", "too_many_concurrent")


class LimitWords(CallerWords):
    """Numbers of limits, and where they come from."""

    @property
    def tier(self) -> SafeString:
        name = str(self.row.limits.get("tier") or self.row.facts.get("tier") or "unknown")
        label = TIERS[name].name if name in TIERS else name
        return link(page("ratelimit_limitrule_changelist", q=name), label)

    @property
    def limit(self) -> str:
        return thousands(self.row.limits.get("limit"))

    @property
    def burst(self) -> str:
        return thousands(self.row.limits.get("burst"))

    @property
    def daily_quota(self) -> str:
        return thousands(self.row.limits.get("daily_quota"))

    @property
    def concurrent_requests(self) -> str:
        return thousands(self.row.limits.get("concurrent_requests"))

    @property
    def bytes_per_second(self) -> str:
        return size(number(self.row.limits.get("limit")))

    @property
    def refusals(self) -> str:
        """Which refusal of the window it was, as a sentence."""
        refused = self.row.limits.get("refused")
        return f"This was refusal {thousands(refused)} in this minute." if refused else ""

    @property
    def resets(self) -> SafeString:
        """When the next request passes."""
        at = self.row.limits.get("resets_at")
        return clock(datetime.fromtimestamp(at, UTC)) if at else SafeString("the next window")

    @property
    def retry_at(self) -> SafeString:
        """When the client was told to come back."""
        seconds = number(self.row.facts.get("retry_after"))
        if seconds is None:
            return SafeString("a later time")
        return clock(datetime.fromtimestamp(self.row.started_at.timestamp() + seconds, UTC))

    @cached_property
    def limit_rule(self) -> LimitRule | None:
        """The operator's rule that set the numbers, if it is still there."""
        totals = self.row.reason in TOTALS
        subject = self.row.limits.get("totals_rule" if totals else "rule", "")
        if not subject:
            return None
        tier = "all" if totals else self.row.limits.get("tier", "")
        return LimitRule.objects.filter(tier=tier, subject="" if subject == "everyone" else subject).first()

    @property
    def limit_rule_link(self) -> SafeString:
        """The operator's rule as a link, empty without one."""
        rule = self.limit_rule
        if rule is None:
            return SafeString("")
        whose = {"user": "this user", "key": "this API key"}.get(rule.subject.partition(":")[0], "everyone")
        return link(page("ratelimit_limitrule_change", rule.pk), f"{rule.tier} for {whose}")

    @property
    def whose_numbers(self) -> SafeString:
        """Where the numbers come from, as a sentence."""
        rule = self.limit_rule
        if rule is None:
            return SafeString("")
        rule_page = page("ratelimit_limitrule_change", rule.pk)
        return format_html("The numbers come from {}.", link(rule_page, "an operator's rule"))
