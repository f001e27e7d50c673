"""The operator pages for API keys."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts.api_keys import revoke_api_key
from accounts.models import ApiKey, User
from accounts.restoring import confirm_api_keys
from accounts.users.staff import may_manage
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.operators.confirmation import ReadOnlyAdmin, ask, counted, operator_of
from lucid_gateway.policy.errors import NotFound


def manageable_keys(operator: User, keys: QuerySet[ApiKey]) -> list[ApiKey]:
    """Return the keys of users that the operator may act on."""
    return [key for key in keys.select_related("user") if may_manage(operator.role, operator.pk, key.user)]


class SuspendedFilter(admin.SimpleListFilter):
    """Filters keys that a restore suspended and no operator has confirmed yet."""

    title, parameter_name = "suspended", "suspended"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Suspended until confirmed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        return queryset.filter(pk__in=ApiKey.objects.suspended()) if self.value() == "yes" else queryset


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("name", "key_id", "user", "created_at", "expires_at", "last_used_at", "revoked_at", "suspended_at")
    list_filter = (SuspendedFilter, "created_at", "expires_at", "revoked_at")
    sortable_by = ("created_at",)
    list_select_related = ("user",)
    search_fields = ("key_id", "name", "user__email", "user__username")
    actions = ("revoke", "confirm")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow the filter that the links on a user's page use."""
        return lookup == "user__user_id__exact" or super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    @admin.action(description="Revoke the selected API keys", permissions=["operate"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponseBase | None:
        """Revoke the keys; only super admins can revoke the keys of other staff."""
        operator = operator_of(request)
        keys = manageable_keys(operator, queryset)
        data, page = ask(
            self, request, keys, title="Revoke API keys", warning="The keys stop with their next request.",
            selected=queryset.count(), shown_as=lambda key: f"{key} of {key.user}",
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
            self, request, keys, title="Confirm API keys", selected=queryset.count(),
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
