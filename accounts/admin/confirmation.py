"""A page between an action and what it does: what will happen, to whom, and why."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin import helpers
from django.http import HttpRequest
from django.template.response import TemplateResponse

CONFIRMED = "_confirmed"


class Reason(forms.Form):
    """Asks why."""

    reason = forms.CharField(max_length=200, help_text="For the audit log and the operators who come after.")


def ask(
    model_admin: "admin.ModelAdmin[Any]",
    request: HttpRequest,
    rows: Iterable[Any],
    *,
    title: str,
    warning: str,
    form: type[forms.Form] = forms.Form,
) -> tuple[dict[str, Any] | None, TemplateResponse | None]:
    """Return (the form's data, None) once the operator has confirmed, (None, the page that asks) until then."""
    confirmed = CONFIRMED in request.POST
    shown = form(request.POST) if confirmed else form()
    if confirmed and shown.is_valid():
        return shown.cleaned_data, None
    context = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "warning": warning,
        "rows": list(rows),
        "form": shown,
        "opts": model_admin.opts,
        "action": request.POST.get("action", ""),
        "selected": request.POST.getlist(helpers.ACTION_CHECKBOX_NAME),
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
