"""The operator pages for API keys."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts.admin.owned import OwnedAdmin, several_or_of_staff
from accounts.api_keys import revoke_api_key, state_of
from accounts.models import ApiKey, User
from accounts.models.credentials import ApiKeyQuerySet
from accounts.restoring import confirm_api_keys
from accounts.users.staff import may_manage
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.kernel.secrets.pasted import KEY_PREFIX
from lucid_gateway.operators.confirmation import ask, operator_of
from lucid_gateway.operators.numbers import counted
from lucid_gateway.operators.search import keys_beginning_with, keys_containing
from lucid_gateway.policy.errors import NotFound

# The tone of each state of a key; an expired one is neither well nor to be looked at.
TONES = {"live": "ok", "suspended": "warn", "revoked": "bad"}


def manageable_keys(operator: User, keys: QuerySet[ApiKey]) -> list[ApiKey]:
    """Return the keys of users that the operator may act on."""
    return [key for key in keys.select_related("user") if may_manage(operator.role, operator.pk, key.user)]


class SuspendedFilter(admin.SimpleListFilter):
    """Filters keys that a restore suspended and no operator has confirmed yet."""

    title, parameter_name = "suspended", "suspended"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Suspended until confirmed")]

    def queryset(self, request: HttpRequest, queryset: ApiKeyQuerySet) -> ApiKeyQuerySet:  # type: ignore[override]
        return queryset.suspended() if self.value() == "yes" else queryset


class ApiKeyAdmin(OwnedAdmin):
    """The list and its actions; the console adds the page of a key and registers both."""

    list_display = ("name", "key_id", "owner", "state", "created_at", "last_used_at")
    list_filter = (SuspendedFilter, "created_at", "expires_at", "revoked_at")
    sortable_by = ("created_at",)
    search_fields = ("key_id", "name", "user__email", "user__username")
    search_help_text = "Name, key id, email or username"
    actions = ("revoke", "confirm")
    row_actions = {"revoke": "Revoke…", "confirm": "Confirm…"}
    harmful_actions = frozenset({"revoke"})
    dangerous_actions = {"revoke": several_or_of_staff, "confirm": several_or_of_staff}
    pills = {"state": TONES}

    @admin.display(description="State")
    def state(self, key: ApiKey) -> str:
        return state_of(key)

    def state_allows(self, action: str, row: ApiKey) -> bool:
        return state_of(row) in ({"suspended"} if action == "confirm" else {"live", "suspended"})

    def named(self, text: str) -> Q:
        """Return the condition for the beginning of an id or a name, and any part of the names of the newest keys."""
        key = KEY_PREFIX.fullmatch(text)
        text = key[1] if key else text
        newest = ApiKey.objects.order_by("-created_at", "-key_id")
        keys = keys_beginning_with(ApiKey.objects.all(), text, "key_id", "name")
        return Q(pk__in={*keys, *keys_containing(newest, text, "name")})

    @admin.action(description="Revoke the selected API keys", permissions=["operate"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponseBase | None:
        """Revoke the keys; only super admins can revoke the keys of other staff."""
        operator = operator_of(request)
        keys = manageable_keys(operator, queryset)
        data, page = ask(
            self, request, keys, action="revoke", title="Revoke API keys", selected=queryset.count(),
            warning="The keys stop with their next request.", shown_as=lambda key: f"{key} of {key.user}",
        )  # fmt: skip
        if data is None:
            return page
        revoked = 0
        for key in keys:
            try:
                revoke_api_key(key.user_id, key.key_id, by=operator)
                revoked += 1
            except NotFound:
                continue  # already revoked
        self.message_user(request, f"{counted(revoked, 'API key')} revoked.", messages.SUCCESS)
        return None

    @admin.action(description="Confirm the selected suspended API keys", permissions=["operate"])
    def confirm(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponseBase | None:
        """Confirm keys that a restore suspended; only super admins can confirm the keys of other staff."""
        operator = operator_of(request)
        keys = manageable_keys(operator, queryset)
        data, page = ask(
            self, request, keys, action="confirm", title="Confirm API keys", selected=queryset.count(),
            warning="The keys work again with their next request. Leave out keys that were revoked after the backup.",
            shown_as=lambda key: f"{key} of {key.user}",
        )  # fmt: skip
        if data is None:
            return page
        try:
            confirmed = confirm_api_keys(ApiKey.objects.filter(pk__in=[key.pk for key in keys]), by=operator)
        except RedisUnavailable:
            self.message_user(request, "Redis is unavailable: confirm the keys when it is back.", messages.ERROR)
            return None
        self.message_user(request, f"{counted(confirmed, 'API key')} confirmed.", messages.SUCCESS)
        return None
