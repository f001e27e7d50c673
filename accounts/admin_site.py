"""The site of the operator pages: its login has the lockouts, limits and second factors of the API's."""

import re
from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.forms import PasswordChangeForm
from django.http import HttpRequest, HttpResponse

from accounts.audit import record
from accounts.lockouts import account, here
from accounts.login import Credentials, WrongCredentials, charged, log_in_staff
from accounts.models import User
from accounts.password_reset import set_password
from accounts.passwords import check_password
from lucid_gateway.errors import RateLimited, TooManyAttempts, Unauthenticated
from lucid_gateway.redis_access import RedisUnavailable
from ratelimit.throttling import admit_login_attempt

NOT_NOW = "Logins are not possible at this moment. Try again shortly."


def too_many(error: TooManyAttempts) -> forms.ValidationError:
    """Return the form's error for a locked-out attempt."""
    wait = error.details["retry_after"]
    return forms.ValidationError(f"Too many failed attempts. Try again in {wait} seconds.", code="locked_out")


class StaffLoginForm(AdminAuthenticationForm):
    """Email, password, and where the account has a second factor, a code."""

    second_factor = forms.CharField(
        label="Authenticator code or recovery code", required=False, max_length=40, strip=True,
        help_text="Only if your account has one.",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code"}),
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        """Let staff in; whatever is wrong, the answer is the same."""
        email, password = self.cleaned_data.get("username") or "", self.cleaned_data.get("password") or ""
        try:
            self.user_cache = log_in_staff(shown(email, password, self.cleaned_data.get("second_factor") or ""))
        except TooManyAttempts as error:
            raise too_many(error) from error
        except Unauthenticated as error:
            raise self.get_invalid_login_error() from error
        except RedisUnavailable as error:
            raise forms.ValidationError(NOT_NOW) from error
        return self.cleaned_data


def shown(email: str, password: str, second: str) -> Credentials:
    """Return the credentials of the form: six digits are a code of the app, anything else a recovery code."""
    if not second:
        return Credentials(email.lower(), password=password)
    if re.fullmatch(r"[0-9]{6}", second):
        return Credentials(email.lower(), password=password, totp=second)
    return Credentials(email.lower(), password=password, recovery_code=second)


class StaffPasswordForm(PasswordChangeForm):
    """Changes one's own password: the old one cannot be guessed at here either, and all tokens end."""

    def clean_old_password(self) -> str:
        """Check the old password, as an attempt that counts."""
        password: str = self.cleaned_data["old_password"]
        try:
            with charged(account(self.user.email), here()):
                if not check_password(self.user, password):
                    raise WrongCredentials()
        except TooManyAttempts as error:
            raise too_many(error) from error
        except WrongCredentials as error:
            raise forms.ValidationError(self.error_messages["password_incorrect"], code="password_incorrect") from error
        return password

    def save(self, commit: bool = True) -> User:
        """Set the password."""
        set_password(self.user, self.cleaned_data["new_password1"])
        record("user.password_changed", subject=self.user)
        return self.user


class GatewayAdminSite(AdminSite):
    """Django's, with our forms and a limit on logins."""

    site_header = site_title = "Lucid API Gateway"
    index_title = "Operations"
    site_url = None  # "/" has no page
    login_form = StaffLoginForm
    login_template = "admin/staff_login.html"
    password_change_form = StaffPasswordForm

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the form or let staff in: so many attempts a minute and address, and lockouts beyond that."""
        if request.method == "POST":
            try:
                admit_login_attempt(request, "admin")
            except RateLimited as error:
                text = f"Too many attempts. Try again in {error.headers['Retry-After']} seconds."
                return HttpResponse(text, status=429, headers=error.headers)
        return super().login(request, extra_context)
