"""The limits that were applied to a request."""

from datetime import UTC, datetime
from functools import cached_property

from django.utils.html import format_html
from django.utils.safestring import SafeString

from lucid_gateway.explorer.cases.request import RequestWords
from lucid_gateway.explorer.naming import link
from lucid_gateway.explorer.words import clock, is_past, number
from lucid_gateway.operators.links import page
from lucid_gateway.operators.numbers import EMPTY, counted, size, thousands
from lucid_gateway.policy.tiers import TIERS
from ratelimit.models import LimitRule

TOTALS = ("quota_exhausted", "too_many_concurrent")


class LimitWords(RequestWords):
    """Numbers of limits, and where they come from."""

    @property
    def tier(self) -> SafeString:
        name = str(self.row.limits.get("tier") or self.row.facts.get("tier") or "unknown")
        label = TIERS[name].name if name in TIERS else name
        return link(page("ratelimit_limitrule_changelist", q=name), label)

    @property
    def limit(self) -> str:
        return requests(self.row.limits.get("limit"))

    @property
    def burst(self) -> str:
        return thousands(self.row.limits.get("burst"))

    @property
    def daily_quota(self) -> str:
        return requests(self.row.limits.get("daily_quota"))

    @property
    def concurrent_requests(self) -> str:
        return requests(self.row.limits.get("concurrent_requests"))

    @property
    def quota_words(self) -> str:
        return f"{self.daily_quota} a day"

    @property
    def concurrency_words(self) -> str:
        return f"{self.concurrent_requests} in progress"

    @property
    def counts_bytes(self) -> bool:
        """Whether the limit that was applied last is one of bytes."""
        tier = TIERS.get(str(self.row.limits.get("tier", "")))
        return tier is not None and not tier.counts_requests

    @property
    def bytes_per_second(self) -> str:
        return size(number(self.row.limits.get("limit")))

    @property
    def refusals(self) -> str:
        """Which refusal of the window it was, as a sentence."""
        refused = self.row.limits.get("refused")
        return f"This was refusal {thousands(refused)} in this minute." if refused else ""

    @property
    def resets_at(self) -> datetime | None:
        """When the next window begins."""
        at = self.row.limits.get("resets_at")
        return datetime.fromtimestamp(at, UTC) if at else None

    @property
    def next_window(self) -> SafeString:
        """When the next request passes, as a sentence."""
        return passing(self.resets_at)

    @property
    def next_try(self) -> SafeString:
        """When the client may come back, as a sentence."""
        return passing(self.retry_at)

    @property
    def refused_until(self) -> SafeString:
        """Until when others like this request are or were refused."""
        verb = "were" if is_past(self.retry_at) else "are"
        return format_html("{} refused until {}", verb, clock(self.retry_at) or "a later time")

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


def requests(count: int | None) -> str:
    return f"{EMPTY} requests" if count is None else counted(count, "request")


def passing(moment: datetime | None) -> SafeString:
    """Return when requests pass again, as a sentence."""
    if moment is None:
        return SafeString("Requests pass again a little later.")
    words = "Requests have passed again since {}." if is_past(moment) else "The next request passes at {}."
    return format_html(words, clock(moment))
