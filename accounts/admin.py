"""The operator pages for users and tokens."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.locks import lock_user, unlock_user
from accounts.models import IssuedToken, User
from accounts.revocation import revoke
from accounts.roles import STAFF
from accounts.tokens import end_all

admin.site.site_header = admin.site.site_title = "Lucid API Gateway"
admin.site.index_title = "Operations"
admin.site.site_url = None  # "/" has no page
admin.site.unregister(Group)  # what a user may do follows from the role alone


@admin.register(User)
class UserAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    list_display = ("email", "username", "role", "is_active", "locked_until", "last_login", "created_at")
    list_filter = ("role", "is_active", "created_at")
    sortable_by = ("email", "username", "role", "locked_until", "created_at")
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

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """An admin looks after users; other staff is for super admins: whose email one sets, their code one gets."""
        operator = request.user
        above = obj is not None and obj.role in STAFF and obj.pk != operator.pk
        return super().has_change_permission(request, obj) and (operator.is_superuser or not above)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Users are locked or deactivated: tokens that live on must find whose they are."""
        return False

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Save; a changed role or a deactivation ends the tokens that still say otherwise."""
        if "email" in form.changed_data:
            obj.email_verified = False
        # Only what changed: a lock set meanwhile stays.
        obj.save(update_fields=[*form.changed_data, "email_verified", "updated_at"])
        if {"role", "is_active"} & set(form.changed_data):
            end_all(obj)

    def within_reach(self, request: HttpRequest, users: QuerySet[User]) -> list[User]:
        """Return those whom the operator may change."""
        return [user for user in users if self.has_change_permission(request, user)]

    @admin.action(description="Lock the selected users", permissions=["change"])
    def lock(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Lock each but the operator's own account."""
        users = self.within_reach(request, queryset.exclude(email=str(request.user)))
        for user in users:
            lock_user(user, reason="locked in the admin", by=str(request.user))
        text = f"{len(users)} users locked; their tokens stop working with the next request."
        self.message_user(request, text, messages.SUCCESS)

    @admin.action(description="Unlock the selected users", permissions=["change"])
    def unlock(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Unlock each."""
        users = self.within_reach(request, queryset)
        for user in users:
            unlock_user(user)
        self.message_user(request, f"{len(users)} users unlocked.", messages.SUCCESS)

    @admin.action(description="End all sessions of the selected users", permissions=["change"])
    def end_sessions(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Revoke the tokens of each."""
        ended = sum(end_all(user) for user in self.within_reach(request, queryset))
        self.message_user(request, f"{ended} tokens revoked.", messages.SUCCESS)


@admin.register(IssuedToken)
class IssuedTokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    list_display = ("user", "kind", "issued_at", "expires_at", "used_at", "revoked_at", "address", "jti")
    list_filter = ("kind", "issued_at", "expires_at", "revoked_at")
    sortable_by = ("issued_at", "expires_at")
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
        """Revoke each that is live; the tokens of other staff are for super admins."""
        operator = request.user
        tokens = queryset.select_related("user")
        within_reach = [
            token.pk for token in tokens
            if operator.is_superuser or token.user.role not in STAFF or token.user == operator
        ]  # fmt: skip
        # By key: a search joins users, and MongoDB updates no join.
        ended = revoke(IssuedToken.objects.filter(pk__in=within_reach))
        self.message_user(request, f"{ended} tokens revoked.", messages.SUCCESS)
