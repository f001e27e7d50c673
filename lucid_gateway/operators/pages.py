"""What the lists and forms of all operator pages have in common."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib.admin import ModelAdmin
from django.db import models

from lucid_gateway.operators.danger import Danger
from lucid_gateway.operators.row_actions import RowActions

if TYPE_CHECKING:
    Base = ModelAdmin[Any]
else:
    Base = ModelAdmin


class OperatorPages(RowActions, Base):
    """The base of each ModelAdmin. `pills` names the columns that are shown as pills, with the tone of each value.
    `dangerous_actions` says of actions, and of what else the pages do, when it is dangerous (`operators.danger`).
    """

    pills: ClassVar[Mapping[str, Mapping[Any, str]]] = {}
    dangerous_actions: ClassVar[Mapping[str, Danger]] = {}
    # The browser's own field for a time needs no script; it is in UTC, as the help texts say.
    formfield_overrides: ClassVar[Any] = {
        models.DateTimeField: {
            "form_class": forms.DateTimeField,
            "widget": forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        }
    }

    def is_dangerous(self, action: str, rows: Sequence[Any]) -> bool:
        """Return whether the action needs a recent proof of the operator's identity, for these rows."""
        danger = self.dangerous_actions.get(action)
        return danger is not None and danger(rows)
