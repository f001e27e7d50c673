"""The site of the operator pages. Its login has the same lockouts, limits and second factors as the API's login."""

from datetime import timedelta
from functools import partial
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.contrib.auth.views import PasswordChangeView
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, path, reverse, reverse_lazy
from django.utils import timezone

from accounts import directory
from accounts.login.identity import TOTP_CODE, prove_identity
from accounts.login.login import Credentials, log_in_staff
from accounts.login.password_reset import prove_password, set_password
from accounts.models import User
from lucid_gateway.audit.events import record
from lucid_gateway.console import health_strip
from lucid_gateway.console.menu import menu
from lucid_gateway.console.overview import alarms_json, alarms_page, overview, overview_json
from lucid_gateway.console.preview.page import preview_page
from lucid_gateway.console.routes.edge_switch import put_back, take_off_page
from lucid_gateway.console.routes.page import routes_page
from lucid_gateway.console.search.page import search_page
from lucid_gateway.console.second_factor import second_factor_page
from lucid_gateway.explorer.pages import request_page, requests_page
from lucid_gateway.operators import undo
from lucid_gateway.operators.identity import as_form_error, note_proof, too_many_attempts
from lucid_gateway.operators.links import page
from ratelimit.throttling import charge_login_attempt, decision_of

WRONG_LOGIN = "The email, password or code is wrong, or the account is not a staff account."


class StaffLoginForm(AdminAuthenticationForm):
    """Email, password and, for accounts with a second factor, a code."""

    second_factor = forms.CharField(
        label="Authenticator code or recovery code", required=False, max_length=40, strip=True,
        help_text="Only if your account has one.",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code"}),
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        """Log staff in. The error is the same whichever input is wrong."""
        decision = decision_of(self.request) if self.request else None
        if decision and not decision.admitted:
            raise too_many_attempts(decision.error().details["retry_after"])
        if self.errors:
            return self.cleaned_data
        given = (self.cleaned_data[name] for name in ("username", "password", "second_factor"))
        with as_form_error(WRONG_LOGIN):
            self.user_cache = log_in_staff(credentials_of(*given))
        return self.cleaned_data


def credentials_of(email: str, password: str, second: str) -> Credentials:
    """Return the form's credentials. A second factor of six digits is a TOTP code, any other is a recovery code."""
    if not second:
        return Credentials(email.lower(), password=password)
    if TOTP_CODE.fullmatch(second):
        return Credentials(email.lower(), password=password, totp=second)
    return Credentials(email.lower(), password=password, recovery_code=second)


class StaffPasswordForm(AdminPasswordChangeForm):
    """Changes the operator's own password, with lockouts for wrong guesses of the old one; all tokens end."""

    def clean_old_password(self) -> str:
        """Check the old password; a wrong one counts as a failed attempt."""
        password: str = self.cleaned_data["old_password"]
        with as_form_error(str(self.error_messages["password_incorrect"])):
            prove_password(self.user, password)
        return password

    def save(self, commit: bool = True) -> User:
        set_password(self.user, self.cleaned_data["new_password1"])
        record("user.password_changed", subject=self.user)
        return self.user


class GatewayAdminSite(AdminSite):
    """Django's admin site with our forms and rate-limited logins."""

    site_header = site_title = "Lucid API Gateway"
    index_title = "Overview"
    enable_nav_sidebar = False  # the frame has a menu of its own
    empty_value_display = "–"
    site_url = None  # "/" is not a page for people
    login_form = StaffLoginForm
    login_template = "admin/staff_login.html"
    directory = directory  # for the pages of lower floors: lucid_gateway/operators/directory.py

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Return what the frame around every page shows: the menu, the environment, and the operator's own pages."""
        context = super().each_context(request)
        del context["available_apps"]  # costs a query of permissions for each model, and no page shows it
        if context["has_permission"]:
            context |= {
                "menu": menu(request),
                "strip": health_strip.items(),
                "search_url": reverse("admin:search"),
                "environment": settings.ENV.ENVIRONMENT,
                "own_pages": [
                    {"name": "Change password", "url": reverse("admin:password_change")},
                    {"name": "Second factor", "url": reverse("admin:second_factor")},
                    {"name": "Undo recent changes", "url": reverse("admin:undo")},
                    {
                        "name": "What have I done",
                        "url": page("audit_auditevent_changelist", actor__exact=str(request.user.pk)),
                    },
                ],
            }
        return context

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the form or log staff in. A rate limit counts attempts by address; lockouts apply, too."""
        if request.method != "POST":
            return super().login(request, extra_context)
        decision = charge_login_attempt(request, "admin")
        response = super().login(request, extra_context)
        if not decision.admitted:
            response.status_code = 429
            response["Retry-After"] = str(decision.resets_in)
        if response.status_code == 302:
            note_proof(request)
            # A fixed end: without it, each later write of the session would extend it.
            request.session.set_expiry(timezone.now() + timedelta(seconds=settings.SESSION_COOKIE_AGE))
        return response

    def get_urls(self) -> list[URLResolver | URLPattern]:
        """Add the pages that belong to no model; drop the redirect to public pages of rows, which have none."""
        own = [
            path("overview.json", self.admin_view(overview_json), name="overview_json"),
            path("alarms.json", self.admin_view(alarms_json), name="alarms_json"),
            path("alarms/", self.admin_view(alarms_page), name="alarms"),
            path("search/", self.admin_view(partial(search_page, self)), name="search"),
            path("second-factor/", self.admin_view(partial(second_factor_page, self)), name="second_factor"),
            path("undo/", self.admin_view(partial(undo.page, self)), name="undo"),
            path("preview/", self.admin_view(partial(preview_page, self)), name="preview"),
            path("routes/", self.admin_view(partial(routes_page, self)), name="routes"),
            path("routes/edge/off/", self.admin_view(partial(take_off_page, self)), name="edge_off"),
            path("routes/edge/on/", self.admin_view(put_back), name="edge_on"),
            path("requests/", self.admin_view(partial(requests_page, self)), name="requests"),
            path("requests/<str:request_id>/", self.admin_view(partial(request_page, self)), name="request"),
        ]
        return [*own, *(url for url in super().get_urls() if getattr(url, "name", "") != "view_on_site")]

    def prove_operator(self, user: User, proof: str) -> None:
        """Check an operator's password or code before a dangerous action; raise what `prove_identity` raises."""
        prove_identity(user, proof)

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show the overview."""
        return overview(request, extra_context)

    def app_index(self, request: HttpRequest, app_label: str, extra_context: Any = None) -> HttpResponse:  # type: ignore[override]  # Django's returns a page
        """Show the overview: the menu takes the place of Django's page for each app."""
        return HttpResponseRedirect(reverse("admin:index"))

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show our form; Django's method does not let a site replace its own."""
        view = PasswordChangeView.as_view(
            form_class=StaffPasswordForm,
            success_url=reverse_lazy("admin:password_change_done"),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )
        response: TemplateResponse = view(request)  # type: ignore[assignment]  # or a redirect, which its type leaves out
        return response
