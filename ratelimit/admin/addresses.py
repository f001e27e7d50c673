"""The operator pages for rules of addresses and networks."""

import ipaddress
from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from lucid_gateway.operators.confirmation import operator_of, reason_of
from lucid_gateway.operators.directory import Name
from lucid_gateway.operators.numbers import thousands
from ratelimit.admin.forms import AddressRuleForm
from ratelimit.admin.rules import ENFORCED_ADVICE, GATEWAY, RulePages
from ratelimit.admin.shadow import observed_today
from ratelimit.admin.words import (
    KIND_WORDS,
    Kind,
    evidence_in_words,
    network_in_words,
    requests_url,
    what_it_does,
)
from ratelimit.client_address import parse
from ratelimit.engine.shadow import network_scope
from ratelimit.models import AddressRule, as_network, is_past
from ratelimit.rules import REFUSED_KINDS
from ratelimit.ruling import extend_address_rule, lift_address_rule, set_address_rule

ENDED, SHADOW = "Ended", "Shadow"


@admin.register(AddressRule)
class AddressRuleAdmin(RulePages):
    form = AddressRuleForm
    list_display = ("network", "happens", "reason", "refusals", "made_by", "expires_at")
    list_filter = ("kind", "observe_only", "created_at", "expires_at")
    sortable_by = ("expires_at",)
    search_fields = ("network", "reason")
    search_help_text = "An address, which finds the rules of its networks, or a part of a network or reason"
    fields = ("network", "kind", "observe_only", "reason", "lasts", "expires_at")
    change_form_template = "admin/ratelimit/address_form.html"
    pills = {
        "happens": {
            KIND_WORDS[Kind.ALLOW]: "ok", KIND_WORDS[Kind.DENY]: "bad", KIND_WORDS[Kind.BLOCKED]: "bad",
            KIND_WORDS[Kind.HALVED]: "warn", SHADOW: "warn", ENDED: "",
        }
    }  # fmt: skip
    lift_warning = "The gateway will treat these networks like all others."

    @admin.display(description="Kind")
    def happens(self, rule: AddressRule) -> str:
        """Return in a word what happens to requests from the network now."""
        if is_past(rule.expires_at):
            return ENDED
        return SHADOW if rule.observe_only else KIND_WORDS[Kind(rule.kind)]

    @admin.display(description="Refused")
    def refusals(self, rule: AddressRule) -> str:
        """Return how many requests the rule has refused or, in shadow mode, would have refused."""
        if not rule.observe_only:
            return thousands(rule.refused)
        return format_html(
            '<span class="faint" title="It would have refused these">{}</span>', thousands(rule.observed)
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[AddressRule], search_term: str
    ) -> tuple[QuerySet[AddressRule], bool]:
        """Find the rules of all networks that contain a whole address; otherwise search the texts."""
        address = parse(search_term.strip())
        if address is None:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(network__in=networks_with(address)), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list under the name that the menu gives it."""
        return super().changelist_view(request, {"title": "Addresses", **(extra_context or {})})

    def get_readonly_fields(self, request: HttpRequest, obj: AddressRule | None = None) -> tuple[str, ...]:
        """Keep the network of an existing rule: another network needs another rule."""
        return () if obj is None else ("network",)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the form; for an existing rule, first what it does, by whom it was made, and why."""
        rule = self.get_object(request, object_id) if object_id else None
        more = self.about(rule) if rule is not None else {}
        return super().changeform_view(request, object_id, form_url, {**more, **(extra_context or {})})

    def about(self, rule: AddressRule) -> dict[str, Any]:
        """Return what the page says about the rule."""
        word = self.happens(rule)
        return {
            "rule": rule,
            "does": what_it_does(rule),
            "happens": word,
            "tone": self.pills["happens"][word],
            "maker": self.directory.names_of([rule.created_by]).get(rule.created_by)
            or Name(rule.created_by or f"the {GATEWAY}"),
            "evidence": evidence_in_words(rule.evidence),
            "requests_url": requests_url(rule),
            "refuses": rule.kind in REFUSED_KINDS and not rule.observe_only,
            "observed": observed_today(self.directory, network_scope(rule.network)) if rule.observe_only else [],
        }

    def affected_by(self, rule: AddressRule) -> str:
        return self.directory.whom_an_address_rule_affects(rule.network)

    def prefilled(self, request: HttpRequest) -> AddressRule | None:
        """Return the rule of a link such as `?network=192.0.2.0/24&kind=deny`."""
        try:
            return AddressRule(network=as_network(request.GET.get("network", "")))
        except ValidationError:
            return None

    def whom(self, rule: AddressRule) -> str:
        return network_in_words(rule.network)

    def advice(self, rule: AddressRule) -> str:
        enforced = rule.kind in REFUSED_KINDS and not rule.observe_only
        return f"{what_it_does(rule)} {ENFORCED_ADVICE}" if enforced else what_it_does(rule)

    def set_one(self, request: HttpRequest, rule: AddressRule) -> AddressRule:
        return set_address_rule(
            network=rule.network, kind=rule.kind, reason=rule.reason, expires_at=rule.expires_at,
            by=operator_of(request), observe_only=rule.observe_only,
        )  # fmt: skip

    def lift_one(self, request: HttpRequest, rule: AddressRule) -> None:
        lift_address_rule(rule.network, by=operator_of(request), why=reason_of(request))

    def extend_one(self, request: HttpRequest, rule: AddressRule, expires_at: Any) -> None:
        extend_address_rule(rule, expires_at, by=operator_of(request), why=reason_of(request))


def networks_with(address: Any) -> list[str]:
    """Return all networks, from the address itself to the whole internet, that contain the address."""
    lengths = range(address.max_prefixlen + 1)
    return [str(ipaddress.ip_network((address, length), strict=False)) for length in lengths]
