"""The operator pages for API keys."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts.admin.confirmation import ReadOnlyAdmin, ask, many
from accounts.admin.users import operator_of
from accounts.api_keys import revoke_api_key
from accounts.models import ApiKey
from accounts.staff import may_manage
from lucid_gateway.errors import NotFound


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = ("name", "key_id", "user", "created_at", "expires_at", "last_used_at", "revoked_at")
    list_filter = ("created_at", "expires_at", "revoked_at")
    sortable_by = ("created_at",)
    list_select_related = ("user",)
    search_fields = ("key_id", "name", "user__email", "user__username")
    actions = ("revoke",)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow the links of a user's page."""
        return lookup == "user__user_id__exact" or super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    @admin.action(description="Revoke the selected API keys", permissions=["operate"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponseBase | None:
        """Revoke each; the keys of other staff are for super admins."""
        operator = operator_of(request)
        keys = [key for key in queryset.select_related("user") if may_manage(operator.role, operator.pk, key.user)]
        data, page = ask(
            self, request, keys, title="Revoke API keys", warning="They stop with their next request.",
            selected=queryset.count(), shown_as=lambda key: f"{key} of {key.user}",
        )  # fmt: skip
        if data is None:
            return page
        ended = 0
        for key in keys:
            try:
                revoke_api_key(key.user_id, key.key_id, by=operator)
                ended += 1
            except NotFound:
                continue  # revoked before
        self.message_user(request, f"{many(ended, 'API key')} revoked.", messages.SUCCESS)
        return None
