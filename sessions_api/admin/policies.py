"""The operator pages for trust policies."""

from collections.abc import Iterator

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from lucid_gateway.operators.search import FoundByUUID
from sessions_api.admin.owned import OwnedAdmin
from sessions_api.evaluation import by_priority
from sessions_api.models import Session, TrustPolicy

VERBS = {"allow": "allows", "deny": "denies"}
ROW = '<li{}><strong>{}</strong> {} <code>{}</code> if <code class="condition">{}</code> · priority {}{}</li>'


@admin.register(TrustPolicy)
class TrustPolicyAdmin(FoundByUUID, OwnedAdmin):
    list_display = ("name", "owner", "enabled", "number_of_rules", "created_at", "updated_at")
    list_filter = ("enabled",)
    sortable_by = ()
    ordering = ("user_id", "created_at")
    search_fields = ("=user__email", "=user__username", "name")
    search_help_text = "Part of the name, full email or username of the user, or full policy id"
    uuid_field = "policy_id"
    fields = (
        "policy_id", "owner", "name", "description", "enabled", "rules_in_order", "referring_sessions",
        "created_at", "updated_at", "audit_events", "version",
    )  # fmt: skip

    class Media:
        css = {"all": ("sessions_api/policies.css",)}

    @admin.display(description="Rules")
    def number_of_rules(self, policy: TrustPolicy) -> int:
        return len(policy.rules)

    @admin.display(description="Rules, in order of evaluation")
    def rules_in_order(self, policy: TrustPolicy) -> SafeString:
        """Return a numbered list with a sentence for each rule."""
        return format_html('<ol class="rules">{}</ol>', format_html_join("", ROW, rule_rows(policy)))

    @admin.display(description="Sessions with this policy")
    def referring_sessions(self, policy: TrustPolicy) -> int:
        return Session.objects.undeleted().filter(trust_policy=policy).count()


def rule_rows(policy: TrustPolicy) -> Iterator[tuple[object, ...]]:
    """Yield the values that fill ROW for each rule."""
    for rule in by_priority(policy.rules):
        off = "" if rule["enabled"] else " · disabled"
        marked = "" if rule["enabled"] else SafeString(' class="off"')
        yield marked, rule["rule_id"], VERBS[rule["type"]], rule["action"], rule["condition"], rule["priority"], off
