"""What the lists and forms of all operator pages have in common."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib.admin import ModelAdmin
from django.db import models

from lucid_gateway.operators.row_actions import RowActions

if TYPE_CHECKING:
    Base = ModelAdmin[Any]
else:
    Base = ModelAdmin


class OperatorPages(RowActions, Base):
    """The base of each ModelAdmin. `pills` names the columns that are shown as pills, with the tone of each value."""

    pills: ClassVar[Mapping[str, Mapping[Any, str]]] = {}
    # The browser's own field for a time needs no script; it is in UTC, as the help texts say.
    formfield_overrides: ClassVar[Any] = {
        models.DateTimeField: {
            "form_class": forms.DateTimeField,
            "widget": forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        }
    }
