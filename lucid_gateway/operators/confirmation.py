"""A page between an action and what it does: what will happen, to whom, and why."""

from collections.abc import Callable, Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.http import HttpRequest
from django.template.response import TemplateResponse

CONFIRMED = "_confirmed"
MOST_ROWS = 500  # the page names each, and Django takes no form of more than a thousand fields


class ReasonForm(forms.Form):
    """Asks why."""

    reason = forms.CharField(max_length=200, help_text="For the audit log and the operators who come after.")


def operator_of(request: HttpRequest) -> Any:
    """Return the operator who sent a request for a page: a user, which modules below the accounts do not know."""
    return request.user


def many(count: int, noun: str) -> str:
    """Return such as `1 user` and `2 users`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def ask(
    model_admin: "admin.ModelAdmin[Any]",
    request: HttpRequest,
    rows: Sequence[Any] | None,
    *,
    title: str,
    warning: str,
    form: type[forms.Form] = forms.Form,
    shown_as: Callable[[Any], str] = str,
    selected: int = 0,
) -> tuple[dict[str, Any] | None, TemplateResponse | None]:
    """Return (the form's data, None) once the operator has confirmed, (None, the page that asks) until then.

    `rows` are those of the `selected` that the operator may act on, None where there is nothing to select. The page
    names exactly these, and what is confirmed is for exactly these. Too many or none is (None, None), with a message.
    """
    if rows is not None and not 1 <= len(rows) <= MOST_ROWS:
        text = f"No more than {MOST_ROWS} at a time." if rows else "You may not do that to any of the selected."
        model_admin.message_user(request, text, messages.ERROR)
        return None, None
    confirmed = CONFIRMED in request.POST
    filled = form(request.POST) if confirmed else form()
    if confirmed and filled.is_valid():
        return filled.cleaned_data, None
    context = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "warning": warning,
        "rows": [(row.pk, shown_as(row)) for row in rows or ()],
        "left_out": max(0, selected - len(rows or ())),
        "form": filled,
        "opts": model_admin.opts,
        "action": request.POST.get("action", ""),
        "checkbox": helpers.ACTION_CHECKBOX_NAME,
        "confirmed": CONFIRMED,
    }
    return None, TemplateResponse(request, "admin/confirm_action.html", context)


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # not subscriptable at run time
    """Rows that are records: they are looked at, and acted on by actions alone."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """They come from elsewhere."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What happened stays as it was."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What is deleted would be forgotten."""
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Return whether the operator may use actions: those that are no editing."""
        return bool(getattr(request.user, "is_staff", False))

    def has_govern_permission(self, request: HttpRequest) -> bool:
        """Return whether the operator may use the actions of super admins."""
        return bool(getattr(request.user, "is_superuser", False))
