"""The operator pages for trust policies, which show what a policy would decide and store nothing."""

from collections.abc import Iterable, Iterator
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from lucid_gateway.operators.numbers import counted
from lucid_gateway.operators.row_actions import RowButton
from lucid_gateway.operators.search import keys_beginning_with, keys_containing
from sessions_api.admin.recordings import RecordingAdmin
from sessions_api.admin.shapes import attributes_of
from sessions_api.evaluation import EvaluatedRule, PolicyDecision, by_priority, covers, decide
from sessions_api.models import Session, TrustPolicy
from sessions_api.serializers.policies import MAX_CONTEXT_BYTES, QuestionSerializer

VERBS = {"allow": "allows", "deny": "denies"}
ATTRIBUTES_HELP = "A JSON object, or a line for each attribute, such as user.age = 18"
Outcome = tuple[str, str]


class QuestionForm(forms.Form):
    """What a policy is asked: an action, and attributes as text."""

    action = forms.CharField(max_length=100, initial="session.view", help_text="Such as session.view")
    attributes = forms.CharField(
        required=False, max_length=2 * MAX_CONTEXT_BYTES, help_text=ATTRIBUTES_HELP,
        widget=forms.Textarea(attrs={"rows": 7, "spellcheck": "false", "class": "mono"}),
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        """Check the question as the API does; `context` are the attributes as JSON."""
        data: dict[str, Any] = self.cleaned_data
        try:
            data["context"] = attributes_of(data.get("attributes", ""))
        except ValueError as error:
            self.add_error("attributes", str(error))
            return data
        question = QuestionSerializer(data={"action": data.get("action", ""), "context": data["context"]})
        if "action" in data and not question.is_valid():
            for name, texts in question.errors.items():
                self.add_error("action" if name == "action" else "attributes", [str(text) for text in texts])
        return data


@admin.register(TrustPolicy)
class TrustPolicyAdmin(RecordingAdmin):
    list_display = ("short_name", "owner", "state", "number_of_rules", "created_at", "updated_at")
    list_filter = ("enabled",)
    sortable_by = ()
    search_fields = ("name",)
    search_help_text = "Name, email or username, or id of the policy or user"
    fields = ("policy_id",)
    change_form_template = "admin/sessions_api/policy.html"
    pills = {"state": {"Enabled": "ok", "Disabled": "warn"}}

    class Media:
        css = {"all": ("sessions_api/policies.css",)}

    @admin.display(description="Name")
    def short_name(self, policy: TrustPolicy) -> str:
        return self.named(policy.name, policy)

    @admin.display(description="State")
    def state(self, policy: TrustPolicy) -> str:
        return "Enabled" if policy.enabled else "Disabled"

    @admin.display(description="Rules")
    def number_of_rules(self, policy: TrustPolicy) -> int:
        return len(policy.rules)

    def row_links(self, row: TrustPolicy) -> Iterable[RowButton]:
        """Return the button that opens the form for a question to the policy."""
        return [RowButton("", "Evaluate…", link=evaluate_page(row))]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[TrustPolicy], search_term: str
    ) -> tuple[QuerySet[TrustPolicy], bool]:
        """Search by full ids, users, beginnings of names, and parts of the names of the newest policies."""
        term = search_term.strip()
        if not term:
            return queryset, False
        matching = self.rows_matching(term, queryset, "pk")
        if matching is None:
            policies = TrustPolicy.objects.all()
            keys = keys_beginning_with(policies, term, "name") + keys_containing(policies, term, "name")
            matching = queryset.filter(pk__in=keys)
        return matching, False

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        """Show the rules, and the form that evaluates them."""
        row: TrustPolicy | None = options.get("obj")
        facts = self.facts_of(row, QuestionForm()) if row else {}
        return super().render_change_form(request, context | facts, *args, **options)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.evaluate)
        return [
            path("<path:object_id>/evaluate/", view, name="sessions_api_trustpolicy_evaluate"),
            *super().get_urls(),
        ]

    def evaluate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what the policy decides on the sent question, or the form."""
        policy: TrustPolicy = self.row_or_404(request, object_id)
        form = QuestionForm(request.POST) if request.method == "POST" else QuestionForm()
        decision = None
        if form.is_bound and form.is_valid():
            decision = decide(policy, action=form.cleaned_data["action"], context=form.cleaned_data["context"])
        context = {
            **self.admin_site.each_context(request),
            "title": f"Evaluate {policy.name}",
            "opts": self.opts,
            "original": policy,
            "media": self.media,
            **self.facts_of(policy, form, decision),
        }
        return TemplateResponse(request, self.change_form_template, context)

    def facts_of(
        self, policy: TrustPolicy, form: QuestionForm, decision: PolicyDecision | None = None
    ) -> dict[str, Any]:
        """Return the context of the page."""
        action = form.cleaned_data["action"] if decision else ""
        return {
            "words": in_words(policy),
            "rules": list(rule_rows(policy, action, decision)),
            "sessions": Session.objects.undeleted().filter(trust_policy=policy).count(),
            "form": form,
            "decision": decision,
            "evaluate_url": evaluate_page(policy),
        }


def evaluate_page(policy: TrustPolicy) -> str:
    return reverse("admin:sessions_api_trustpolicy_evaluate", args=[policy.pk])


def in_words(policy: TrustPolicy) -> str:
    """Return a sentence about what the policy does."""
    if not policy.enabled:
        return "This policy is disabled, so it allows nothing."
    active = sum(rule["enabled"] for rule in policy.rules)
    return f"{counted(active, 'enabled rule')}. What no rule allows is denied."


def rule_rows(policy: TrustPolicy, action: str, decision: PolicyDecision | None) -> Iterator[dict[str, Any]]:
    """Yield the rules in order of evaluation, with what each had to do with the decision."""
    evaluated = {result.rule_id: result for result in decision.evaluated} if decision else {}
    for rule in by_priority(policy.rules):
        result = evaluated.get(rule["rule_id"])
        outcome = outcome_of(rule, result, action) if decision else None
        yield {**rule, "verb": VERBS[rule["type"]], "outcome": outcome, "error": result.error if result else None}


def outcome_of(rule: dict[str, Any], result: EvaluatedRule | None, action: str) -> Outcome:
    """Return what happened to the rule in words, and the tone of its pill."""
    if not rule["enabled"]:
        return "disabled", ""
    if not covers(rule["action"], action):
        return "other action", ""
    if result is None:
        return "not asked", ""
    if result.error is not None:
        return "undecided", "warn"
    return ("matches", "ok" if rule["type"] == "allow" else "bad") if result.matched else ("no match", "")
