"""The page on which operators add an authenticator app, make new recovery codes, and remove the app."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from accounts.enrolment import must_enrol
from accounts.factors.hardware_wallet import WALLET
from accounts.factors.recovery import renew_recovery_codes
from accounts.factors.table import factors_of, leave
from accounts.factors.totp import TOTP, Enrolment, pending_enrolment
from accounts.login.identity import TOTP_CODE
from accounts.login.password_reset import prove_password
from accounts.models import User
from lucid_gateway.operators.confirmation import operator_of
from lucid_gateway.operators.identity import PROOF, as_form_error, check_proof, has_recent_proof, proof_fields
from lucid_gateway.policy.errors import AlreadyExists, NotFound, ServiceUnavailable

CODE_INPUT = forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"})


class ConfirmForm(forms.Form):
    code = forms.RegexField(
        TOTP_CODE, label="Code of the app", widget=CODE_INPUT, error_messages={"invalid": "A code has six digits."}
    )


class RemoveForm(forms.Form):
    password = forms.CharField(
        label="Your password", max_length=128, strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )  # fmt: skip
    code = forms.CharField(
        label="Code of the app, or a recovery code", max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code"}),
    )  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A form of the page. `apply(user, **data)` returns recovery codes to show, if there are new ones.

    A `proven` step asks for the password or a code, unless the operator has entered one in the last 15 minutes.
    """

    apply: Callable[..., list[str] | None]
    form: type[forms.Form] = forms.Form
    wrong: str = ""
    done: str = ""
    proven: bool = False

    def form_for(self, request: HttpRequest) -> type[forms.Form]:
        return type("StepForm", (self.form,), proof_fields(request) if self.proven else {})


def begin(user: User) -> None:
    TOTP.enrol(user)


def confirm(user: User, code: str) -> list[str]:
    return TOTP.confirm(user, code)


def renew(user: User) -> list[str]:
    if not factors_of(user):
        raise NotFound("Add a second factor first")
    return renew_recovery_codes(user)


def remove(user: User, password: str, code: str) -> None:
    prove_password(user, password)
    leave(TOTP, user, **{"proof" if TOTP_CODE.fullmatch(code) else "recovery_code": code})


STEPS = {
    "begin": Step(begin, proven=True),
    "confirm": Step(
        confirm, ConfirmForm, wrong="The code is wrong. Codes change every 30 seconds.",
        done="Logins need a code of the app from now on.",
    ),
    "renew": Step(renew, proven=True),
    "remove": Step(
        remove, RemoveForm, wrong="The password or the code is wrong.", done="The authenticator app was removed."
    ),
}  # fmt: skip


def second_factor_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Show the page, or take one of its steps. New recovery codes are in the answer to the step, and never again."""
    shown = {name: step.form_for(request)(auto_id=f"{name}-%s") for name, step in STEPS.items()}
    codes: list[str] | None = None
    if request.method == "POST":
        name = request.POST.get("step", "")
        if name not in STEPS:
            raise BadRequest("unknown step")
        form = STEPS[name].form_for(request)(request.POST, auto_id=f"{name}-%s")
        codes = taken(site, request, STEPS[name], form)
        if not form.errors and not codes:
            return HttpResponseRedirect(request.path)
        shown[name] = form
    return page(site, request, shown, codes)


def taken(site: AdminSite, request: HttpRequest, step: Step, form: forms.Form) -> list[str] | None:
    """Take the step if the form is right; otherwise the form has errors. Return new recovery codes to show."""
    if not form.is_valid():
        return None
    data: dict[str, Any] = dict(form.cleaned_data)
    try:
        if (proof := data.pop(PROOF, None)) is not None:
            check_proof(site, request, proof)
        with as_form_error(step.wrong):
            codes = step.apply(request.user, **data)
    except forms.ValidationError as error:
        form.add_error(None, error)
        return None
    except (AlreadyExists, NotFound) as error:
        messages.error(request, f"{error.message}.")  # sent twice, or from two tabs
        return None
    if step.done:
        messages.success(request, step.done)
    return codes


def page(
    site: AdminSite, request: HttpRequest, shown: dict[str, forms.Form], codes: list[str] | None
) -> TemplateResponse:
    user = User.objects.get(pk=operator_of(request).pk)  # as the step has left it
    enrolment = pending(request, user)
    frame = {} if must_enrol(user) else site.each_context(request)  # the pages of the menu are still closed
    context = {
        **frame,
        "title": "Second factor",
        "must_enrol": must_enrol(user),
        "has_app": TOTP.is_on(user),
        "has_wallet": WALLET.is_on(user),
        "recovery_codes_left": user.recovery_codes.filter(used_at=None).count(),
        "enrolment": enrolment,
        "qr_code": SafeString(enrolment.inline_qr_code()) if enrolment else "",
        "forms": shown,
        "codes": codes,
        "home": reverse("admin:index"),
    }
    return TemplateResponse(request, "admin/second_factor.html", context)


def pending(request: HttpRequest, user: User) -> Enrolment | None:
    """Return the enrolment to confirm. Its secret is shown only to an operator with a recent proof."""
    try:
        return pending_enrolment(user) if has_recent_proof(request) else None
    except ServiceUnavailable:  # it was encrypted under another SECRET_KEY: the operator begins again
        return None
