"""Buttons of pages: links, and actions of other pages, which ask and then return to the page of the button."""

from collections.abc import Mapping
from dataclasses import dataclass

from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME

from lucid_gateway.operators import links


@dataclass(frozen=True)
class Button:
    """A link or, if it sends `fields`, a form. `danger` is for what does harm."""

    label: str
    url: str
    danger: bool = False
    fields: Mapping[str, str] | None = None


def link_button(label: str, url: str, *, danger: bool = False) -> Button | None:
    """Return a button that opens a page, None if the page does not exist."""
    return Button(label, url, danger) if url else None


def action_button(label: str, action: str, key: object, model: str, *, danger: bool = False) -> Button:
    """Return a button that runs an action of the list of `model` on the row with the key.

    `model` is the beginning of the list's URL name, such as `accounts_user`.
    """
    fields = {"action": action, ACTION_CHECKBOX_NAME: str(key), "index": "0"}
    return Button(label, links.page(f"{model}_changelist"), danger, fields)
