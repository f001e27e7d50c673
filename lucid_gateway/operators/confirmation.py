"""The page on which an operator confirms an action: it says what will happen to which rows, and may ask why.

reason      asks why; the answer is in the returned data and belongs into the audit log
typed       asks to type this text, such as the name of what ends for good

What the ModelAdmin calls dangerous (`operators.danger`) asks for the password or a code, unless the operator has
entered one in the last 15 minutes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import unquote
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from lucid_gateway.operators.back import BACK, back_of
from lucid_gateway.operators.identity import PROOF, check_proof, proof_fields
from lucid_gateway.operators.numbers import counted
from lucid_gateway.operators.pages import OperatorPages

CONFIRMED = "_confirmed"
REASON, TYPED = "reason", "typed"
MAX_ROWS = 500  # the page names each row, and Django accepts at most a thousand form fields
REASON_LENGTH = 200
OWN_FIELDS = ("csrfmiddlewaretoken", CONFIRMED, BACK, "action", "select_across", helpers.ACTION_CHECKBOX_NAME)


def reason_field() -> forms.CharField:
    """Return the form field for the reason."""
    return forms.CharField(max_length=REASON_LENGTH, help_text="The audit log and other operators see this.")


class ReasonForm(forms.Form):
    reason = reason_field()


@dataclass(frozen=True)
class Question:
    """What an operator must confirm: the title is also the text of the button, so it starts with a verb."""

    title: str
    warning: str
    form: type[forms.Form] = forms.Form
    reason: bool = False
    typed: str = ""
    dangerous: bool = False


def operator_of(request: HttpRequest) -> Any:
    """Return the signed-in user; the type is Any because this module may not import the user model."""
    return request.user


def ask(
    model_admin: OperatorPages,
    request: HttpRequest,
    rows: Sequence[Any] | None,
    *,
    action: str,
    title: str,
    warning: str,
    form: type[forms.Form] = forms.Form,
    reason: bool = False,
    typed: str = "",
    about: Sequence[Any] = (),
    shown_as: Callable[[Any], str] = str,
    selected: int = 0,
) -> tuple[dict[str, Any] | None, TemplateResponse | None]:
    """Return (the form's data, None) if the operator has confirmed the action, otherwise (None, the page that asks).

    `action` is its name in `dangerous_actions`. `rows` are those of the `selected` rows on which the operator may act;
    the page names exactly these, and the confirmation covers only them. An action of a page has None, and is `about`
    some. If there are too many rows or none, this returns (None, None) and shows a message. `reason` and `typed` are
    explained at the top of this module.
    """
    if rows is not None and not 1 <= len(rows) <= MAX_ROWS:
        text = (
            f"Select at most {counted(MAX_ROWS, 'row')}."
            if rows
            else "You may not do this to any of the selected rows."
        )
        model_admin.message_user(request, text, messages.ERROR)
        return None, None
    dangerous = model_admin.is_dangerous(action, about if rows is None else rows)
    question = Question(title, warning, form, reason, typed, dangerous)
    data, filled = answer_to(model_admin.admin_site, request, question)
    if data is not None:
        return data, None
    return None, page_of(
        model_admin, request, question, filled,
        rows=[(row.pk, shown_as(row)) for row in rows or ()],
        left_out=max(0, selected - len(rows or ())),
        action="" if rows is None else action,
    )  # fmt: skip


def ask_before_saving(
    model_admin: OperatorPages, request: HttpRequest, question: Question
) -> tuple[dict[str, Any] | None, TemplateResponse | None]:
    """Ask like `ask` about a form that was sent; the confirmation sends its fields again."""
    data, filled = answer_to(model_admin.admin_site, request, question)
    if data is not None:
        return data, None
    left_out = (*OWN_FIELDS, *filled.fields)
    carried = [(name, value) for name, values in request.POST.lists() if name not in left_out for value in values]
    return None, page_of(model_admin, request, question, filled, carried=carried, back=request.get_full_path())


def answer_to(
    site: admin.AdminSite, request: HttpRequest, question: Question
) -> tuple[dict[str, Any] | None, forms.Form]:
    """Return (the data, the form) if the operator has confirmed, otherwise (None, the form to show)."""
    asked = type("Confirmation", (question.form,), dict(fields_of(question, request)))
    if CONFIRMED not in request.POST:
        return None, asked(initial={REASON: reason_of(request)})
    filled = asked(request.POST)
    if not filled.is_valid():
        return None, filled
    data = filled.cleaned_data
    data.pop(TYPED, None)
    # The proof comes last, because a code works once.
    if (proof := data.pop(PROOF, None)) is not None:
        try:
            check_proof(site, request, proof)
        except forms.ValidationError as error:
            filled.add_error(PROOF, error)
            return None, filled
    return data, filled


def fields_of(question: Question, request: HttpRequest) -> Iterator[tuple[str, forms.Field]]:
    """Yield the names and fields that the question adds to its form."""
    if question.reason:
        yield REASON, reason_field()
    if question.typed:
        yield TYPED, TypedField(question.typed)
    if question.dangerous:
        yield from proof_fields(request).items()


class TypedField(forms.CharField):
    """A text that the operator must type exactly as it is shown."""

    def __init__(self, expected: str) -> None:
        super().__init__(label=f"Type {expected} to confirm", widget=forms.TextInput(attrs={"autocomplete": "off"}))
        self.expected = expected

    def validate(self, value: str) -> None:
        """Raise ValidationError unless it is the text."""
        super().validate(value)
        if value != self.expected:
            raise forms.ValidationError(f"This is not {self.expected}.")


def page_of(
    model_admin: OperatorPages, request: HttpRequest, question: Question, filled: forms.Form, **more: Any
) -> TemplateResponse:
    context = {
        **model_admin.admin_site.each_context(request),
        "title": question.title,
        "warning": question.warning,
        "dangerous": question.dangerous,
        "form": filled,
        "opts": model_admin.opts,
        "back": back_of(request),
        "checkbox": helpers.ACTION_CHECKBOX_NAME,
        "confirmed": CONFIRMED,
        **more,
    }
    return TemplateResponse(request, "admin/confirm_action.html", context)


class AsksBeforeSaving(OperatorPages):
    """A ModelAdmin that asks before it saves some changes.

    `save_model` finds an asked reason with `reason_of(request)`.
    """

    def question_about(self, request: HttpRequest, form: "forms.ModelForm[Any]") -> Question | None:
        """Return what the operator must confirm before the valid form is saved, or None to save it at once."""
        return None

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the form, ask, or save."""
        form = self.sent_form(request, object_id)
        question = self.question_about(request, form) if form is not None and form.is_valid() else None
        if question is not None:
            _, page = ask_before_saving(self, request, question)
            if page is not None:
                return page
        return super().changeform_view(request, object_id, form_url, extra_context)

    def sent_form(self, request: HttpRequest, object_id: str | None) -> "forms.ModelForm[Any] | None":
        """Return the form that the operator sent, about a row of its own; None if there is none or it is refused."""
        if request.method != "POST":
            return None
        row = self.get_object(request, unquote(object_id)) if object_id else None
        allowed = self.has_change_permission(request, row) if object_id else self.has_add_permission(request)
        if not allowed or (object_id and row is None):
            return None
        form_class = self.get_form(request, row, change=row is not None)
        return form_class(request.POST, request.FILES, instance=row)


def reason_of(request: HttpRequest) -> str:
    """Return the reason that the operator gave on the page that asked before saving, or an empty text."""
    return request.POST.get(REASON, "").strip()[:REASON_LENGTH]


class ReadOnlyAdmin(OperatorPages):
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
