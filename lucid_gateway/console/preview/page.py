"""The page "What would happen?": a form, and the decision on the request that it describes."""

import re
from typing import Any

from django import forms
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from lucid_gateway.console.preview.case import PreviewCase
from lucid_gateway.console.preview.decision import Preview, preview
from lucid_gateway.console.preview.question import (
    METHODS,
    NotFoundInQuestion,
    Question,
    address_of,
    key_of,
    path_of,
    user_of,
)
from lucid_gateway.explorer.cases.caller import Operator
from lucid_gateway.explorer.decided import OBSERVED, UNKNOWN, lines
from lucid_gateway.kernel.secrets.pasted import without_secrets
from lucid_gateway.operators.confirmation import operator_of
from proxy.forwarding.resolving import active_routes

# The parts of a link to this page. A link has no email, because addresses of pages are logged.
LINKED = {
    "user": re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "key": re.compile("[a-z0-9]{12}"),
    "address": re.compile("[0-9a-fA-F:.]{2,45}"),
    "method": re.compile("|".join(METHODS)),
    "path": re.compile(".{1,2000}"),
}


class PreviewForm(forms.Form):
    """Whose request it is, and what it asks for."""

    user = forms.CharField(label="User", max_length=254, required=False, help_text="Email, username or id")
    key = forms.CharField(
        label="API key", max_length=200, required=False, help_text="Name, id, or the key, of which only the id is read"
    )
    address = forms.CharField(
        label="Client address", max_length=60, required=False, help_text="Alone, or together with a user or a key"
    )
    method = forms.ChoiceField(label="Method", choices=[(name, name) for name in METHODS], initial="GET")
    path = forms.CharField(
        label="Path", max_length=2000, initial="/api/v1/",
        widget=forms.TextInput(attrs={"list": "paths", "spellcheck": "false"}),
    )  # fmt: skip

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        # The page that comes back must not show a secret.
        super().__init__({name: without_secrets(text) for name, text in data.items()} if data else data)

    def clean(self) -> dict[str, Any]:
        """Look up whom the request is of; `cleaned_data["question"]` is the question."""
        super().clean()
        given = {name: text for name in ("user", "key", "address") if (text := self.cleaned_data.get(name))}
        if not given:
            raise forms.ValidationError("Enter a user, an API key or an address.")
        if "user" in given and "key" in given:
            raise forms.ValidationError("Enter a user or an API key, not both: a request has one credential.")
        found: dict[str, Any] = {}
        for name, read in (("user", user_of), ("key", key_of), ("address", address_of)):
            try:
                found |= {name: read(given[name])} if name in given else {}
            except NotFoundInQuestion as error:
                self.add_error(name, str(error))
        if not self.errors:
            path = path_of(self.cleaned_data["path"])
            self.cleaned_data["question"] = Question(self.cleaned_data["method"], path, **found)
        return self.cleaned_data


def preview_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Answer with the form and, once it is filled in or a link has filled it in, with the decision."""
    form = form_of(request)
    context = {**site.each_context(request), "title": "What would happen?", "form": form, "paths": known_paths()}
    if form.is_bound and form.is_valid():
        context |= decided(preview(form.cleaned_data["question"]), operator_of(request))
    return TemplateResponse(request, "admin/preview.html", context)


def form_of(request: HttpRequest) -> PreviewForm:
    """Return the form as it was sent, or as a link fills it in."""
    if request.method == "POST":
        return PreviewForm(request.POST.dict())
    linked = {name: text for name, text in request.GET.items() if name in LINKED and LINKED[name].fullmatch(str(text))}
    if "path" in linked and linked.keys() & {"user", "key", "address"}:
        return PreviewForm({"method": "GET", **linked})
    form = PreviewForm()
    form.initial = linked
    return form


def decided(found: Preview, by: Operator) -> dict[str, Any]:
    """Return what the page shows of a decision to the operator."""
    case = PreviewCase(found, by=by)
    steps = lines(case)
    doubtful = any(line.tone in (OBSERVED, UNKNOWN) for line in steps)
    return {
        "question": found.question,
        "case": case,
        "sentence": case.sentence,
        "tone": "bad" if found.error else ("warn" if doubtful else "ok"),
        "error": found.error,
        "explanation": case.explanation if case.row.reason else None,
        "lines": steps,
        "back": found.question.link,
    }


def known_paths() -> list[str]:
    """Return the paths of the forwarded routes, as suggestions."""
    return sorted({f"/api/v1/{route.path}" for route in active_routes()})
