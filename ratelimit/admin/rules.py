"""What the pages of limits and of addresses have in common: previews, confirmations of wide rules, lifting, undo."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase, HttpResponseRedirect
from django.urls import reverse

from lucid_gateway.operators.confirmation import (
    AsksBeforeSaving,
    Question,
    ReadOnlyAdmin,
    ask,
)
from lucid_gateway.operators.danger import several
from lucid_gateway.operators.directory import Directory, Name, directory_of
from lucid_gateway.operators.numbers import counted
from lucid_gateway.operators.row_actions import RowButton
from lucid_gateway.policy.errors import NotFound
from ratelimit.admin.forms import ExtendForm, end_of
from ratelimit.admin.undo_rules import KEYS, Changes, Rule
from ratelimit.admin.words import is_wide
from ratelimit.models import is_past
from ratelimit.ruling import LocksOut

PREVIEW = "_preview"
GATEWAY = "gateway"
ENFORCED_ADVICE = "Shadow mode first would show whom the rule would refuse."


def wide_or_several(rules: Sequence[Rule]) -> bool:
    """Return whether an action would change several rules at once, or one for everyone or a wide network."""
    return several(rules) or any(map(is_wide, rules))


class RulePages(AsksBeforeSaving, ReadOnlyAdmin):
    """Rows that staff add, change and extend, and lift with an action. `affected_by` and the others differ by model."""

    actions = ("lift", "extend")
    row_actions = {"lift": "Lift…", "extend": "Extend…"}
    harmful_actions = frozenset({"lift"})
    dangerous_actions = {"save": wide_or_several, "lift": wide_or_several, "extend": wide_or_several}
    lift_warning: ClassVar[str]

    @property
    def directory(self) -> Directory:
        return directory_of(self.admin_site)

    def affected_by(self, rule: Any) -> str:
        """Return in words whom the rule affects; raise ValidationError."""
        raise NotImplementedError

    def prefilled(self, request: HttpRequest) -> Any:
        """Return the rule that the query of the page prefills, or None."""
        raise NotImplementedError

    def lift_one(self, request: HttpRequest, rule: Any) -> None:
        """Lift the rule; raise NotFound."""
        raise NotImplementedError

    def extend_one(self, request: HttpRequest, rule: Any, expires_at: Any) -> None:
        """Change when the rule ends; raise NotFound or LocksOut."""
        raise NotImplementedError

    # Rights

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether the operator is staff."""
        return self.has_operate_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the operator is staff."""
        return self.has_operate_permission(request)

    # Lists

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Find the names that the rows show with one query each for users and for keys."""
        found = super().get_changelist_instance(request)
        rows: list[Any] = list(found.result_list)
        names = self.directory.names_of(name for row in rows for name in (getattr(row, "subject", ""), row.created_by))
        for row in rows:
            row.names = names
        found.result_list = rows
        return found

    @admin.display(description="Made by")
    def made_by(self, rule: Any) -> str:
        """Return who made the rule, as a link if it was a user."""
        name: Name = rule.names.get(rule.created_by) or Name(rule.created_by or GATEWAY)
        return name.as_html()

    def row_links(self, row: Any) -> Iterable[RowButton]:
        """Return the button that opens the form of the rule."""
        return [RowButton("", "Edit", link=self.page_of(row))]

    def row_action_applies(self, action: str, row: Any) -> bool:
        """Offer to extend a rule that ends."""
        return action != "extend" or row.expires_at is not None

    def page_of(self, rule: Any) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[rule.pk])

    # Forms

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form, which only checks its fields if the operator asked for a preview."""
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.directory, form.only_preview = self.directory, PREVIEW in request.POST
        return form

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show the form with whom the rule would affect, ask, or save. A link to a rule that exists opens its page."""
        if existing := self.prefilled_rule(request, object_id):
            self.message_user(request, "There is a rule for this already.", messages.WARNING)
            return HttpResponseRedirect(self.page_of(existing))
        more = {"affected": self.affected_words(request, object_id), "preview": PREVIEW}
        return super().changeform_view(request, object_id, form_url, {**more, **(extra_context or {})})

    def prefilled_rule(self, request: HttpRequest, object_id: str | None) -> Any:
        """Return the rule in force with the key that the query of the form for new rules prefills, or None."""
        rule = self.prefilled(request) if request.method == "GET" and object_id is None else None
        if rule is None:
            return None
        found = self.model.objects.filter(**{name: getattr(rule, name) for name in KEYS[self.model]}).first()
        return None if found is None or is_past(found.expires_at) else found

    def affected_words(self, request: HttpRequest, object_id: str | None) -> str:
        """Return whom the rule would affect that the operator previews, or to which a link has led; "" without one."""
        if PREVIEW in request.POST:
            form = self.sent_form(request, object_id)
            rule = None if form is None or form.errors else form.instance
        else:
            rule = self.prefilled(request) if request.method == "GET" and object_id is None else None
        try:
            return self.affected_by(rule) if rule is not None else ""
        except ValidationError:
            return ""

    def question_about(self, request: HttpRequest, form: Any) -> Question | None:
        """Ask before a rule for everyone or for a wide network is saved."""
        rule = form.instance
        if not is_wide(rule):
            return None
        return Question(
            f"Save the rule for {self.whom(rule)}", f"{self.affected_by(rule)}. {self.advice(rule)}", reason=True,
            dangerous=self.is_dangerous("save", [rule]),
        )  # fmt: skip

    def whom(self, rule: Any) -> str:
        """Return for whom the rule is, in words."""
        raise NotImplementedError

    def advice(self, rule: Any) -> str:
        """Return what to consider before a wide rule is saved."""
        raise NotImplementedError

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Set the rule, as the API does, and offer to undo that."""
        changes = Changes(self.model)
        with changes.to(obj):
            obj.pk = self.set_one(request, obj).pk
        text = f"The rule for {self.whom(obj)} was {'changed' if change else 'added'}."
        changes.offer_undo(request, text, dangerous=self.is_dangerous("save", [obj]))

    def set_one(self, request: HttpRequest, rule: Any) -> Rule:
        """Set the rule in place of the one with the same key."""
        raise NotImplementedError

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Go to the list; `save_model` has shown the message."""
        return self.response_post_save_add(request, obj)

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """Go to the list; `save_model` has shown the message."""
        return self.response_post_save_change(request, obj)

    # Actions

    @admin.action(description="Lift the selected rules", permissions=["operate"])
    def lift(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase | None:
        """Ask for confirmation, for wide rules also for a reason, then lift each rule."""
        rows = list(queryset)
        data, page = ask(
            self, request, rows, action="lift", title="Lift rules", warning=self.lift_warning,
            reason=any(map(is_wide, rows)), shown_as=self.shown,
        )  # fmt: skip
        if data is None:
            return page
        self.change_each(request, rows, lambda rule: self.lift_one(request, rule), "lift", "lifted")
        return None

    @admin.action(description="Extend the selected rules", permissions=["operate"])
    def extend(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponseBase | None:
        """Ask how long the rules last from now on, for wide rules also for a reason, then change when each ends."""
        rows = list(queryset)
        data, page = ask(
            self, request, rows, action="extend", title="Extend rules", form=ExtendForm,
            warning="The rules last this long, from now on.", reason=any(map(is_wide, rows)), shown_as=self.shown,
        )  # fmt: skip
        if data is None:
            return page
        ends = end_of(data["lasts"])
        self.change_each(request, rows, lambda rule: self.extend_one(request, rule, ends), "extend", "extended")
        return None

    def shown(self, rule: Any) -> str:
        """Return the rule in words, for the pages that ask."""
        return str(rule)

    def change_each(
        self, request: HttpRequest, rows: list[Any], change: Callable[[Any], None], action: str, done: str
    ) -> None:
        """Change each rule that still exists, and offer to undo that."""
        changes = Changes(self.model)
        for rule in rows:
            try:
                with changes.to(rule):
                    change(rule)
            except NotFound:
                continue  # another operator has lifted it, or it has expired
            except LocksOut as error:
                self.message_user(request, f"{rule}: {error.text}.", messages.ERROR)
        text = f"{counted(len(changes), 'rule')} {done}."
        if len(changes):
            changes.offer_undo(request, text, dangerous=self.is_dangerous(action, rows))
        else:
            self.message_user(request, text)
