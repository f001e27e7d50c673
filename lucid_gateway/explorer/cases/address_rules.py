"""The rule for the address of a request."""

from functools import cached_property

from django.utils.html import format_html
from django.utils.safestring import SafeString

from lucid_gateway.explorer.cases.caller import CallerWords
from lucid_gateway.explorer.naming import link
from lucid_gateway.explorer.words import clock, is_past
from lucid_gateway.operators.links import page
from ratelimit.models import AddressRule


class AddressRuleWords(CallerWords):
    """The network that a rule is about, who made the rule, and why."""

    @property
    def network(self) -> str:
        return str(self.row.facts.get("network") or self.row.network or self.row.address or "its network")

    @cached_property
    def address_rule(self) -> AddressRule | None:
        """The rule for the network, if it is still there."""
        return AddressRule.objects.filter(network=self.network).first()

    @property
    def shown_network(self) -> str:
        """The network, or its only address."""
        return self.network.removesuffix("/32").removesuffix("/128")

    @property
    def network_link(self) -> SafeString:
        rule = self.address_rule
        return link(page("ratelimit_addressrule_change", rule.pk) if rule else "", self.shown_network)

    @property
    def belonging(self) -> SafeString:
        """That the address belongs to the network, as a sentence."""
        if self.shown_network == self.row.address:
            return SafeString("")
        return format_html("The address {} belongs to it.", self.address)

    @property
    def rule_reason(self) -> SafeString:
        """Who refuses the network, until when and why, as a sentence."""
        rule = self.address_rule
        if rule is None:
            return SafeString("The rule has been lifted since, so the address is served again.")
        by = self.person(rule.created_by) if rule.created_by else "The gateway itself"
        verb = "lasted" if is_past(rule.expires_at) else "lasts"
        ends = format_html("until {}", clock(rule.expires_at)) if rule.expires_at else "until somebody lifts it"
        return format_html("{} set this rule, which {} {}: “{}”.", by, verb, ends, rule.reason)
