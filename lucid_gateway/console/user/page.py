"""The page of one user: what is the matter, and the buttons that change it. The form is behind "Edit"."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from accounts.admin.users import UserAdmin
from accounts.models import User
from lucid_gateway.console.known import known
from lucid_gateway.console.user.belongings import api_keys, devices, recordings
from lucid_gateway.console.user.buttons import buttons_of
from lucid_gateway.console.user.limits import limits_of, new_rule, own_rules
from lucid_gateway.console.user.status import status_of
from lucid_gateway.console.user.timeline import AUDIT, BOTH, REQUESTS, timeline_of
from lucid_gateway.operators import links
from lucid_gateway.operators.confirmation import operator_of
from lucid_gateway.policy.roles import STAFF

CHOICES = {REQUESTS: "Requests", AUDIT: "Audit", BOTH: "Both"}

# The lists that the page links to.
OWN_LISTS = {
    "devices": "accounts_signin",
    "tokens": "accounts_issuedtoken",
    "keys": "accounts_apikey",
    "sessions": "sessions_api_session",
    "manifests": "sessions_api_manifest",
    "policies": "sessions_api_trustpolicy",
}


def links_of(user: User) -> dict[str, str]:
    """Return the addresses of the lists of everything of the user, by name."""
    lists = {name: links.page(f"{model}_changelist", user__user_id__exact=user.pk) for name, model in OWN_LISTS.items()}
    return lists | {
        "requests": links.page("requests", user=user.pk),
        "events": links.page("audit_auditevent_changelist", q=user.pk),
        "done": links.page("audit_auditevent_changelist", actor__exact=user.pk),
        "history": links.page("accounts_user_history", user.pk),
    }


@admin.register(User)
class UserPages(UserAdmin):
    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        """Show the user, or the form for those who may and want to edit it."""
        user: User | None = options.get("obj")
        context["back"] = request.path
        may_change = user is not None and self.has_change_permission(request, user)
        response = super().render_change_form(request, context, *args, **options)
        if user is None or (may_change and (request.method == "POST" or "edit" in request.GET)):
            return response
        response.template_name = "admin/accounts/user.html"  # type: ignore[attr-defined]  # a TemplateResponse
        response.context_data |= self.workbench(request, user, may_change=may_change)  # type: ignore[attr-defined]
        return response

    def workbench(self, request: HttpRequest, user: User, *, may_change: bool) -> dict[str, Any]:
        """Return what the page shows of the user. A part is None while its source does not answer."""
        choice = request.GET.get("timeline", BOTH)
        choice = choice if choice in CHOICES else BOTH
        status, signed_in = status_of(user), known(lambda: devices(user))
        operator, governs = operator_of(request), self.has_govern_permission(request)
        return {
            "shown_user": user,
            "status": status,
            "is_staff_role": user.role in STAFF,
            "may_change": may_change,
            "buttons": buttons_of(status, signed_in, operator, governs=governs) if may_change else [],
            "limits": known(lambda: limits_of(user)),
            "own_rules": known(lambda: own_rules(user)),
            "new_rule": new_rule(user),
            "timeline": timeline_of(user, choice),
            "choices": [(name, label, name == choice) for name, label in CHOICES.items()],
            "devices": signed_in,
            "keys": known(lambda: api_keys(user)),
            "recordings": known(lambda: recordings(user)),
            "links": links_of(user),
        }

    def response_post_save_change(self, request: HttpRequest, obj: User) -> HttpResponseRedirect:
        """Return to the user's page."""
        return HttpResponseRedirect(reverse("admin:accounts_user_change", args=[obj.pk]))
