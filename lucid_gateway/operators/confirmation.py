"""The page on which an operator confirms an action: it says what will happen to which rows, and may ask why."""

from collections.abc import Callable, Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.http import HttpRequest
from django.template.response import TemplateResponse

CONFIRMED = "_confirmed"
MAX_ROWS = 500  # the page names each row, and Django accepts at most a thousand form fields


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=200, help_text="The audit log and other operators see this.")


def operator_of(request: HttpRequest) -> Any:
    """Return the signed-in user; the type is Any because this module may not import the user model."""
    return request.user


def counted(count: int, noun: str) -> str:
    """Return a text such as `1 user` or `2 users`."""
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
    """Return (the form's data, None) if the operator has confirmed the action, otherwise (None, the page that asks).

    `rows` are those of the `selected` rows on which the operator may act, or None for an action without rows. The page
    names exactly these rows, and the confirmation covers only them. If there are too many rows or none, this returns
    (None, None) and shows a message.
    """
    if rows is not None and not 1 <= len(rows) <= MAX_ROWS:
        text = (
            f"Select at most {counted(MAX_ROWS, 'row')}."
            if rows
            else "You may not do this to any of the selected rows."
        )
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
    """Pages for rows that operators cannot edit; they can only use actions on them."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Return whether the operator may use the actions of staff."""
        return bool(getattr(request.user, "is_staff", False))

    def has_govern_permission(self, request: HttpRequest) -> bool:
        """Return whether the operator may use the actions of super admins."""
        return bool(getattr(request.user, "is_superuser", False))
