"""Buttons on the rows of a list: each runs one of the list's actions on its row, or opens a page about it."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.admin import ModelAdmin, helpers
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from lucid_gateway.operators.back import back_of

if TYPE_CHECKING:
    Base = ModelAdmin[Any]
else:
    Base = object

FIELD = "row_action"


@dataclass(frozen=True)
class RowButton:
    """`value` is what the form sends under the name `row_action`. A button with `link` only opens that page."""

    value: str
    label: str
    harmful: bool = False
    link: str = ""


class RowActions(Base):
    """A mixin for ModelAdmin: `row_actions` maps names of actions to the labels of their buttons. A label that ends in
    "…" announces a confirmation; those of `harmful_actions` look so.
    """

    row_actions: ClassVar[Mapping[str, str]] = {}
    harmful_actions: ClassVar[frozenset[str]] = frozenset()

    def row_action_applies(self, action: str, row: Any) -> bool:
        """Return whether the action can change this row, such as `unlock` a locked user."""
        return True

    def row_links(self, row: Any) -> Iterable[RowButton]:
        """Return the buttons that open pages about the row."""
        return ()

    def row_buttons(self, row: Any, allowed: Container[str]) -> list[RowButton]:
        """Return the buttons of the row, for those of its actions that the operator is allowed to use."""
        buttons = [
            RowButton(f"{name} {row.pk}", label, name in self.harmful_actions)
            for name, label in self.row_actions.items()
            if name in allowed and self.row_action_applies(name, row)
        ]
        return [*buttons, *self.row_links(row)]

    def is_key(self, text: str) -> bool:
        """Return whether the text can be the primary key of a row."""
        try:
            self.opts.pk.to_python(text)
        except ValidationError:
            return False
        return True

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Treat a row's button as if its row alone had been selected and the action chosen.

        After an action that began on another page, return there.
        """
        name, _, key = request.POST.get(FIELD, "").partition(" ")
        selected = request.POST.getlist(helpers.ACTION_CHECKBOX_NAME)
        post = request.POST.copy()
        if name in self.row_actions:
            post["action"], post["index"], selected = name, "0", [key]
        post.setlist(helpers.ACTION_CHECKBOX_NAME, [key for key in selected if self.is_key(key)])
        request.POST = post  # type: ignore[assignment]  # a copy may be changed, the original may not
        response = super().changelist_view(request, extra_context)
        back = back_of(request)
        return HttpResponseRedirect(back) if back and response.status_code == 302 else response
