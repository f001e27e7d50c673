"""The operator pages for users and tokens."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.locks import lock_user, unlock_user
from accounts.models import IssuedToken, User
from accounts.revocation import revoke
from accounts.tokens import end_all

admin.site.site_header = admin.site.site_title = "Lucid API Gateway"
admin.site.index_title = "Operations"


@admin.register(User)
class UserAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    list_display = ("email", "username", "role", "is_active", "locked_until", "last_login", "created_at")
    list_filter = ("role", "is_active", "email_verified", "created_at")
    search_fields = ("email", "username", "first_name", "last_name")
    fields = (
        "user_id", "email", "username", "first_name", "last_name", "role", "is_active", "email_verified",
        "totp_enabled", "hardware_wallet_enabled", "locked_until", "lock_reason", "locked_by", "last_login",
        "created_at", "updated_at",
    )  # fmt: skip
    readonly_fields = (
        "user_id", "email_verified", "totp_enabled", "hardware_wallet_enabled", "locked_until", "lock_reason",
        "locked_by", "last_login", "created_at", "updated_at",
    )  # fmt: skip
    actions = ("lock", "unlock", "end_sessions")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Only a super admin changes roles, and nobody their own."""
        may_change_role = getattr(request.user, "is_superuser", False) and (obj is None or obj.pk != request.user.pk)
        return self.readonly_fields if may_change_role else (*self.readonly_fields, "role", "is_active")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Accounts are opened through the API or the command line."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Users are locked or deactivated: tokens that live on must find whose they are."""
        return False

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Save; a changed role or a deactivation ends the tokens that still say otherwise."""
        super().save_model(request, obj, form, change)
        if {"role", "is_active"} & set(form.changed_data):
            end_all(obj)

    @admin.action(description="Lock the selected users", permissions=["change"])
    def lock(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Lock each but the operator's own account."""
        operator = request.user
        for user in queryset.exclude(email=str(operator)):
            lock_user(user, reason="locked in the admin", by=str(operator))
        self.message_user(request, "Locked; their tokens stop working with the next request.", messages.SUCCESS)

    @admin.action(description="Unlock the selected users", permissions=["change"])
    def unlock(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Unlock each."""
        for user in queryset:
            unlock_user(user)
        self.message_user(request, "Unlocked.", messages.SUCCESS)

    @admin.action(description="End all sessions of the selected users", permissions=["change"])
    def end_sessions(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Revoke the tokens of each."""
        ended = sum(end_all(user) for user in queryset)
        self.message_user(request, f"{ended} tokens revoked.", messages.SUCCESS)


@admin.register(IssuedToken)
class IssuedTokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    list_display = ("jti", "user", "kind", "issued_at", "expires_at", "used_at", "revoked_at", "address")
    list_filter = ("kind", "issued_at", "expires_at", "revoked_at")
    list_select_related = ("user",)
    search_fields = ("jti", "user__email", "user__username", "address")
    actions = ("revoke",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tokens come from logins."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: IssuedToken | None = None) -> bool:
        """What was issued is a record."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: IssuedToken | None = None) -> bool:
        """A revocation that is deleted would be forgotten."""
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Revoking is no editing."""
        return bool(getattr(request.user, "is_staff", False))

    @admin.action(description="Revoke the selected tokens", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[IssuedToken]) -> None:
        """Revoke each that is live."""
        self.message_user(request, f"{revoke(queryset)} tokens revoked.", messages.SUCCESS)
