"""The operator pages for users."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone

from accounts.admin.undo_locks import change_locks
from accounts.models import User
from accounts.models.users import role_choices
from accounts.users.locks import FOREVER, lock_user, unlock_user
from accounts.users.profile import delete_account
from accounts.users.staff import (
    change_role,
    edit_account,
    end_sessions,
    lift_lockouts,
    mail_login_link,
    may_manage,
    reset_second_factors,
)
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.operators.confirmation import (
    AsksBeforeSaving,
    Question,
    ReasonForm,
    ask,
    operator_of,
    reason_of,
)
from lucid_gateway.operators.danger import always, several
from lucid_gateway.operators.long_lists import LongList, LongListPaginator
from lucid_gateway.operators.numbers import counted
from lucid_gateway.operators.search import HYPHENATED, FoundByUUID, keys_beginning_with, keys_containing
from lucid_gateway.policy.errors import NotFound, TooManyAttempts
from lucid_gateway.policy.roles import STAFF, Role

NOT_MAILED: dict[type[Exception], str] = {
    NotFound: "A locked or deleted user cannot log in: not all login links were sent.",
    RedisUnavailable: "Redis is unavailable: not all login links were sent. Try again.",
    TooManyAttempts: "This user has asked for too many logins. Send the login link in a few minutes.",
}

admin.site.unregister(Group)  # permissions depend only on the role


def keys_of_users(text: str) -> list[Any]:
    """Return the keys of users whose email or username begins with the text."""
    return keys_beginning_with(User.objects.all(), text.lower(), "email", "username")


def several_or_staff(users: Sequence[User]) -> bool:
    """Return whether an action would change several users at once, or one of the staff."""
    return several(users) or any(user.role in STAFF for user in users)


class NewRole(forms.Form):
    role = forms.ChoiceField(choices=role_choices)


class LockFilter(admin.SimpleListFilter):
    """Filters users by whether a staff lock is active now."""

    title, parameter_name = "lock", "locked"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Locked"), ("no", "Not locked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        active = {"locked_until__gt": timezone.now()}
        if self.value() == "yes":
            return queryset.filter(**active)
        return queryset.exclude(**active) if self.value() == "no" else queryset


class UserAdmin(FoundByUUID, AsksBeforeSaving):
    """The list, the form and the actions. The console registers them, with a page that shows one user."""

    paginator = LongListPaginator
    show_full_result_count = False
    list_display = ("email", "username", "role", "status", "locked", "last_login", "created_at")
    list_filter = ("role", "is_active", "totp_enabled", "hardware_wallet_enabled", LockFilter, "created_at")
    sortable_by = ("email", "username", "created_at")
    search_fields = ("email", "username", "first_name", "last_name")
    search_help_text = "Email, username, name or user id"
    uuid_field = "user_id"
    fields = ("email", "username", "first_name", "last_name", "role", "is_active")
    actions = (
        "lock", "unlock", "lift_lockouts", "change_role", "end_sessions", "reset_factors", "send_login_link",
        "delete_accounts",
    )  # fmt: skip
    row_actions = {"lock": "Lock…", "unlock": "Unlock…"}
    harmful_actions = frozenset({"lock", "delete_accounts"})
    # The last two are changes of the form. Lifting one's own lockout cannot ask for what the lockout refuses to check.
    dangerous_actions = {
        "lock": several_or_staff, "unlock": several_or_staff, "lift_lockouts": several, "send_login_link": several,
        "end_sessions": several_or_staff, "reset_factors": always, "change_role": always, "delete_accounts": always,
        "email": always, "role_or_status": always,
    }  # fmt: skip
    pills = {
        "role": {Role.ADMIN: "warn", Role.SUPER_ADMIN: "warn"},
        "status": {"active": "ok", "locked": "bad", "deleted": "", "inactive": "warn"},
    }

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        """Search beginnings of emails and usernames, and among the newest users any part of a name, too."""
        text = search_term.strip()
        if not text or HYPHENATED.fullmatch(text):
            return super().get_search_results(request, queryset, search_term)
        newest = User.objects.order_by("-created_at", "-user_id")
        keys = keys_of_users(text) + keys_containing(newest, text, *self.search_fields)
        return queryset.filter(pk__in=set(keys)), False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[LongList]:
        return LongList

    @admin.display(description="Status")
    def status(self, user: User) -> str:
        """Return the status in a word."""
        if user.deleted_at is not None:
            return "deleted"
        if not user.is_active:
            return "inactive"
        return "locked" if user.is_locked else "active"

    def row_action_applies(self, action: str, row: User) -> bool:
        """Offer the one of lock and unlock that changes something."""
        return row.deleted_at is None and row.is_locked == (action == "unlock")

    @admin.display(description="Locked until", ordering="locked_until")
    def locked(self, user: User) -> Any:
        """Return when the active lock ends."""
        if not user.is_locked:
            return self.get_empty_value_display()
        return "no end set" if user.locked_until == FOREVER else user.locked_until

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Only super admins can change roles and deactivate users, and not themselves."""
        may_change_role = getattr(request.user, "is_superuser", False) and (obj is None or obj.pk != request.user.pk)
        return () if may_change_role else ("role", "is_active")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Accounts are created through the API or the command line."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Admins manage users, and only super admins manage other staff. Deleted accounts cannot be changed."""
        operator: Any = request.user
        if not super().has_change_permission(request, obj):
            return False
        return obj is None or (obj.deleted_at is None and may_manage(operator.role, operator.pk, obj))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Keep the row, which checks of leftover tokens need. An action deletes the personal data instead."""
        return False

    def has_govern_permission(self, request: HttpRequest) -> bool:
        """Return whether the operator is a super admin."""
        return bool(getattr(request.user, "is_superuser", False))

    def question_about(self, request: HttpRequest, form: "forms.ModelForm[User]") -> Question | None:
        """Ask before a new email, which could take the account over, and before a new role."""
        if "email" in form.changed_data:
            warning = "Login codes and links go to {new} from now on. Make sure that the owner asked for this."
            return Question(
                f"Change the email of {form.initial['email']}", warning.format(new=form.cleaned_data["email"]),
                reason=True, dangerous=self.is_dangerous("email", [form.instance]),
            )  # fmt: skip
        if {"role", "is_active"} & set(form.changed_data):
            return Question(
                f"Change the role or the status of {form.initial['email']}",
                "The user's tokens and admin sessions end.",
                dangerous=self.is_dangerous("role_or_status", [form.instance]),
            )
        return None

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        try:
            before = {name: form.initial[name] for name in form.changed_data}
            edit_account(obj, by=operator_of(request), before=before, reason=reason_of(request))
        except NotFound as error:
            raise PermissionDenied() from error

    def manageable_users(self, request: HttpRequest, users: QuerySet[User]) -> list[User]:
        return [user for user in users if self.has_change_permission(request, user)]

    def ask_and_apply(
        self,
        request: HttpRequest,
        queryset: QuerySet[User],
        action: str,
        *,
        title: str,
        warning: str,
        done: str,
        apply: Callable[..., Any],
        form: type[forms.Form] = forms.Form,
        changes_locks: bool = False,
        own: bool = False,
    ) -> HttpResponseBase | None:
        """Ask, then call `apply` with the form's data for each user that the operator may change.

        The operator's own account is left out, unless `own`.
        """
        users = self.manageable_users(request, queryset if own else queryset.exclude(pk=operator_of(request).pk))
        data, page = ask(
            self, request, users, action=action, title=title, warning=warning, form=form, selected=queryset.count(),
        )  # fmt: skip
        if data is None:
            return page
        text = f"{counted(len(users), 'user')}: {done}"
        if changes_locks:
            change_locks(request, users, partial(apply, **data), text, dangerous=self.is_dangerous(action, users))
            return None
        for user in users:
            apply(user, **data)
        self.message_user(request, text, messages.SUCCESS)
        return None

    @admin.action(description="Lock the selected users", permissions=["change"])
    def lock(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponseBase | None:
        """Lock the users, except the operator."""
        return self.ask_and_apply(
            request, queryset, "lock", title="Lock users", form=ReasonForm, done="locked.",
            warning="The users' tokens, API keys and admin sessions stop with their next request.",
            apply=lambda user, reason: lock_user(user, reason=reason, by=operator_of(request)),
            changes_locks=True,
        )  # fmt: skip

    @admin.action(description="Unlock the selected users", permissions=["change"])
    def unlock(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponseBase | None:
        return self.ask_and_apply(
            request, queryset, "unlock", title="Unlock users", done="unlocked.", changes_locks=True,
            warning="The users can log in again, and their API keys work again. Tokens that the lock ended stay ended.",
            apply=lambda user: unlock_user(user, by=operator_of(request)),
        )  # fmt: skip

    @admin.action(description="Lift automatic lockouts of the selected users", permissions=["change"])
    def lift_lockouts(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponseBase | None:
        """Lift the lockouts of the users, with an error message if Redis is unavailable."""
        try:
            return self.ask_and_apply(
                request, queryset, "lift_lockouts", title="Lift lockouts", done="lockouts lifted.", own=True,
                warning="The users can try codes and passwords again at once, and so can whoever guessed them.",
                apply=lambda user: lift_lockouts(user, by=operator_of(request)),
            )  # fmt: skip
        except RedisUnavailable:
            self.message_user(request, "Redis is unavailable: not all lockouts were lifted. Try again.", messages.ERROR)
            return None

    @admin.action(description="Mail the selected users a login link", permissions=["change"])
    def send_login_link(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponseBase | None:
        """Mail each user a code and a link, with an error message if that is not possible."""
        try:
            return self.ask_and_apply(
                request, queryset.filter(is_active=True), "send_login_link", title="Send login links",
                done="login link sent.",
                warning="Each user gets a mail with a code and a link, which log in once within five minutes.",
                apply=lambda user: mail_login_link(user, by=operator_of(request)),
            )  # fmt: skip
        except (NotFound, RedisUnavailable, TooManyAttempts) as error:
            self.message_user(request, NOT_MAILED[type(error)], messages.ERROR)
            return None

    @admin.action(description="Change the role of the selected users", permissions=["govern"])
    def change_role(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponseBase | None:
        return self.ask_and_apply(
            request, queryset, "change_role", title="Change roles", form=NewRole, done="role changed.",
            warning="The users' tokens end, because they contain the role.",
            apply=lambda user, role: change_role(user, Role(role), by=operator_of(request)),
        )  # fmt: skip

    @admin.action(description="End all sessions of the selected users", permissions=["change"])
    def end_sessions(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponseBase | None:
        """Revoke all tokens and admin sessions of the users."""
        return self.ask_and_apply(
            request, queryset, "end_sessions", title="End sessions", done="sessions ended.",
            warning="All tokens and admin sessions of the users end. API keys stay valid.",
            apply=lambda user: end_sessions(user, by=operator_of(request)),
        )  # fmt: skip

    @admin.action(description="Reset TOTP and wallet of the selected users", permissions=["change"])
    def reset_factors(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponseBase | None:
        """Switch all second factors of the users off."""
        return self.ask_and_apply(
            request, queryset, "reset_factors", title="Reset second factors", done="second factors reset.",
            warning="Anyone who can read their mail can log in afterwards. Make sure that they asked for this.",
            apply=lambda user: reset_second_factors(user, by=operator_of(request)),
        )  # fmt: skip

    @admin.action(description="Delete the selected accounts", permissions=["govern"])
    def delete_accounts(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponseBase | None:
        """Delete the personal data of the users, and end their tokens and API keys."""
        return self.ask_and_apply(
            request, queryset, "delete_accounts", title="Delete accounts", done="deleted.",
            warning="The users' personal data is deleted, and their tokens and API keys end. This cannot be undone.",
            apply=lambda user: delete_account(user, by=operator_of(request)),
        )  # fmt: skip
