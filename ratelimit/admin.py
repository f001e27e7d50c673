"""The operator pages for limits and addresses."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.operators.confirmation import ReadOnlyAdmin, ask, operator_of
from lucid_gateway.policy.errors import NotFound
from ratelimit.engine.shadow import shadow_refusals_today
from ratelimit.models import AddressRule, LimitRule, as_network
from ratelimit.ruling import (
    NO_NUMBERS,
    LocksOut,
    lift_address_rule,
    lift_limit_rule,
    refuse_to_lock_out,
    set_address_rule,
    set_limit_rule,
)


class OperatedAdmin(ReadOnlyAdmin):
    """Rows that staff add and change, and lift with an action."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether the operator is staff."""
        return self.has_operate_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the operator is staff."""
        return self.has_operate_permission(request)


class AddressRuleForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """A rule for a network that does not lock out the operator who makes it."""

    def clean(self) -> None:
        """Refuse a rule that locks the operator out; the model checks everything else."""
        super().clean()
        network, kind = self.cleaned_data.get("network", self.instance.network), self.cleaned_data.get("kind")
        try:
            refuse_to_lock_out(AddressRule(network=as_network(network), kind=kind or ""))
        except LocksOut as error:
            self.add_error(None, f"{error.text} ({error.details['address']}).")
        except forms.ValidationError:
            return  # the model reports an invalid network


@admin.register(AddressRule)
class AddressRuleAdmin(OperatedAdmin):
    form = AddressRuleForm
    list_display = ("network", "kind", "reason", "refused", "created_by", "created_at", "expires_at")
    list_filter = ("kind", "created_at", "expires_at")
    sortable_by = ("created_at",)
    search_fields = ("network", "reason")
    fields = ("network", "kind", "reason", "expires_at", "evidence", "refused", "created_by", "created_at")
    readonly_fields = ("evidence", "refused", "created_by", "created_at")
    actions = ("lift",)

    def get_readonly_fields(self, request: HttpRequest, obj: AddressRule | None = None) -> tuple[str, ...]:
        """Keep the network of an existing rule: another network needs another rule."""
        return self.readonly_fields if obj is None else ("network", *self.readonly_fields)

    def save_model(self, request: HttpRequest, obj: AddressRule, form: Any, change: bool) -> None:
        """Set the rule, as the API does."""
        rule = set_address_rule(
            network=obj.network, kind=obj.kind, reason=obj.reason, expires_at=obj.expires_at, by=operator_of(request)
        )
        obj.pk = rule.pk

    @admin.action(description="Lift the selected rules", permissions=["operate"])
    def lift(self, request: HttpRequest, queryset: QuerySet[AddressRule]) -> HttpResponseBase | None:
        """Ask for confirmation, then lift each rule."""
        data, page = ask(
            self,
            request,
            list(queryset),
            title="Lift rules",
            warning="The gateway will treat these networks like all others.",
        )
        if data is None:
            return page
        lifted = 0
        for network in list(queryset.values_list("network", flat=True)):
            try:
                lift_address_rule(network, by=operator_of(request))
                lifted += 1
            except NotFound:
                continue  # another operator has lifted it, or it has expired
        self.message_user(request, f"{lifted} rules lifted.", messages.SUCCESS)
        return None


@admin.register(LimitRule)
class LimitRuleAdmin(OperatedAdmin):
    list_display = (
        "tier", "subject", "limit", "burst", "concurrent_requests", "daily_quota", "observe_only", "expires_at",
    )  # fmt: skip
    list_filter = ("tier", "observe_only")
    sortable_by = ()
    search_fields = ("subject", "reason")
    readonly_fields = ("created_by", "created_at")
    actions = ("lift",)
    change_list_template = "admin/limit_rules.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show also what shadow mode would have refused today."""
        try:
            shadow = shadow_refusals_today()
        except RedisUnavailable:
            shadow = {}
        return super().changelist_view(request, {"shadow": sorted(shadow.items())})

    def get_readonly_fields(self, request: HttpRequest, obj: LimitRule | None = None) -> tuple[str, ...]:
        """Keep the tier and the subject of an existing rule: others need another rule."""
        return self.readonly_fields if obj is None else ("tier", "subject", *self.readonly_fields)

    def save_model(self, request: HttpRequest, obj: LimitRule, form: Any, change: bool) -> None:
        """Set the rule, as the API does."""
        numbers = {name: getattr(obj, name) for name in NO_NUMBERS}
        obj.pk = set_limit_rule(tier=obj.tier, subject=obj.subject, by=operator_of(request), **numbers).pk

    @admin.action(description="Lift the selected rules", permissions=["operate"])
    def lift(self, request: HttpRequest, queryset: QuerySet[LimitRule]) -> HttpResponseBase | None:
        """Ask for confirmation, then lift each rule."""
        data, page = ask(
            self, request, list(queryset), title="Lift rules", warning="The limits of the environment will apply again."
        )
        if data is None:
            return page
        lifted = 0
        for tier, subject in list(queryset.values_list("tier", "subject")):
            try:
                lift_limit_rule(tier=tier, subject=subject, by=operator_of(request))
                lifted += 1
            except NotFound:
                continue  # another operator has lifted it
        self.message_user(request, f"{lifted} rules lifted.", messages.SUCCESS)
        return None
