"""The operator pages for limits."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.kernel.secrets.pasted import without_secrets
from lucid_gateway.operators.confirmation import operator_of, reason_of
from lucid_gateway.operators.directory import Name
from lucid_gateway.operators.numbers import thousands
from lucid_gateway.operators.templatetags.console import pill
from ratelimit.admin.forms import LimitRuleForm
from ratelimit.admin.rules import ENFORCED_ADVICE, GATEWAY, RulePages
from ratelimit.admin.shadow import observed_by_tier, observed_today, refused_by
from ratelimit.admin.words import numbers_in_words
from ratelimit.engine.shadow import shadow_refusals_today, tier_scope
from ratelimit.models import ALL_TIERS, LimitRule, is_past
from ratelimit.ruling import NO_NUMBERS, extend_limit_rule, lift_limit_rule, set_limit_rule
from ratelimit.tier_table import tier_rows, title_of, totals

ENFORCED, SHADOW, ENDED = "Enforced", "Shadow", "Ended"
TONES = {ENFORCED: "ok", SHADOW: "warn", ENDED: ""}
RATES, TOTALS = ("limit", "burst"), ("concurrent_requests", "daily_quota")
SHADOW_ADVICE = "In shadow mode the rule refuses nobody, and the limit that it replaces does not either."


@admin.register(LimitRule)
class LimitRuleAdmin(RulePages):
    form = LimitRuleForm
    list_display = ("tier_name", "for_whom", "numbers", "mode_today", "made_by", "expires_at")
    list_filter = ("tier", "observe_only")
    sortable_by = ()
    search_fields = ("subject", "reason")
    search_help_text = "An email, a username, the name of an API key, or a part of the reason"
    fields = (
        "tier", "subject", "limit", "burst", "concurrent_requests", "daily_quota", "observe_only", "reason", "lasts",
        "expires_at",
    )  # fmt: skip
    change_list_template = "admin/ratelimit/limits.html"
    add_form_template = change_form_template = "admin/ratelimit/limit_form.html"
    lift_warning = "The limits of the environment will apply again."

    @admin.display(description="Tier")
    def tier_name(self, rule: LimitRule) -> str:
        """Return the name of the tier without its unit."""
        return title_of(rule.get_tier_display())

    @admin.display(description="For whom")
    def for_whom(self, rule: Any) -> str:
        """Return the name of the user or the key, as a link."""
        if not rule.subject:
            return "Everyone"
        name: Name = rule.names.get(rule.subject) or Name(rule.subject)
        return name.as_html()

    @admin.display(description="Limits")
    def numbers(self, rule: LimitRule) -> str:
        return numbers_in_words(rule)

    @admin.display(description="Mode")
    def mode_today(self, rule: Any) -> str:
        """Return the mode and, in shadow mode, how many requests of today the rule would have refused."""
        word = self.mode(rule)
        shown = pill(word, TONES[word])
        if word != SHADOW or rule.pk not in rule.refused_today:
            return shown
        count = thousands(rule.refused_today[rule.pk])
        return format_html('{} <span class="faint" title="Requests of today (UTC)">{}</span>', shown, count)

    def mode(self, rule: LimitRule) -> str:
        """Return in a word whether the rule refuses requests now."""
        if is_past(rule.expires_at):
            return ENDED
        return SHADOW if rule.observe_only else ENFORCED

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Count also what each rule in shadow mode would have refused today; without Redis this is unknown."""
        found = super().get_changelist_instance(request)
        rows: list[Any] = list(found.result_list)
        try:
            counts = refused_by(rows, shadow_refusals_today()) if any(row.observe_only for row in rows) else {}
        except RedisUnavailable:
            counts = {}
        for row in rows:
            row.refused_today = counts
        return found

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show also the limits of every tier, and what and whom shadow mode would have refused today."""
        try:
            shadow = sorted(shadow_refusals_today().items())
            observed = observed_by_tier(self.directory, (tier for tier, _ in shadow))
        except RedisUnavailable:
            shadow, observed = [], []
        more = {"title": "Limits", "shadow": shadow, "observed": observed}
        return super().changelist_view(request, {**more, "tiers": tier_rows(), "totals": list(totals())})

    def get_fields(self, request: HttpRequest, obj: LimitRule | None = None) -> Any:
        """Leave out the numbers that an existing rule cannot have."""
        left_out = () if obj is None else RATES if obj.tier == ALL_TIERS else TOTALS
        return [name for name in self.fields if name not in left_out]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[LimitRule], search_term: str
    ) -> tuple[QuerySet[LimitRule], bool]:
        """Find the rule for the one whom the search names; otherwise search the texts."""
        try:
            subject = self.directory.find_subject(search_term)
        except ValidationError:
            subject = ""
        if subject:
            return queryset.filter(subject=subject), False
        return super().get_search_results(request, queryset, search_term)

    def get_readonly_fields(self, request: HttpRequest, obj: LimitRule | None = None) -> tuple[str, ...]:
        """Keep the tier and the subject of an existing rule: others need another rule."""
        return () if obj is None else ("tier", "subject")

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the form beside the limits of every tier. The secret of a pasted API key is dropped at once."""
        if "subject" in request.POST:
            post = request.POST.copy()
            post["subject"] = without_secrets(str(post["subject"]))
            request.POST = post  # type: ignore[assignment]  # a copy may be changed, the original may not
        rule = self.get_object(request, object_id) if object_id else None
        more: dict[str, Any] = {"tiers": tier_rows(), "suggestions": self.suggestions(request)}
        if rule is not None:
            names = self.directory.names_of([rule.subject, rule.created_by])
            maker = names.get(rule.created_by) or Name(rule.created_by or GATEWAY)
            more |= {"rule": rule, "who": names.get(rule.subject) or Name(rule.subject or "everyone"), "maker": maker}
            word = self.mode(rule)
            more |= {"numbers": numbers_in_words(rule), "mode": word, "tone": TONES[word]}
            if rule.observe_only and rule.tier != ALL_TIERS:
                more["observed"] = observed_today(self.directory, tier_scope(rule.tier), rule.subject)
        return super().changeform_view(request, object_id, form_url, {**more, **(extra_context or {})})

    def suggestions(self, request: HttpRequest) -> list[str]:
        """Return emails that begin with what the operator entered."""
        return self.directory.suggestions(request.POST.get("subject", ""))

    def affected_by(self, rule: LimitRule) -> str:
        return self.directory.whom_a_limit_affects(rule.tier, rule.subject)

    def prefilled(self, request: HttpRequest) -> LimitRule | None:
        """Return the rule of a link such as `?tier=authenticated&subject=user:<id>`."""
        try:
            subject = self.directory.find_subject(request.GET.get("subject", ""))
        except ValidationError:
            return None
        return LimitRule(tier=request.GET.get("tier", ""), subject=subject) if subject else None

    def whom(self, rule: LimitRule) -> str:
        if not rule.subject:
            return "everyone"
        name = self.directory.names_of([rule.subject]).get(rule.subject)
        return name.text if name else rule.subject

    def advice(self, rule: LimitRule) -> str:
        return SHADOW_ADVICE if rule.observe_only else ENFORCED_ADVICE

    def set_one(self, request: HttpRequest, rule: LimitRule) -> LimitRule:
        numbers = {name: getattr(rule, name) for name in NO_NUMBERS}
        return set_limit_rule(tier=rule.tier, subject=rule.subject, by=operator_of(request), **numbers)

    def lift_one(self, request: HttpRequest, rule: LimitRule) -> None:
        lift_limit_rule(tier=rule.tier, subject=rule.subject, by=operator_of(request), why=reason_of(request))

    def extend_one(self, request: HttpRequest, rule: LimitRule, expires_at: Any) -> None:
        extend_limit_rule(rule, expires_at, by=operator_of(request), why=reason_of(request))
