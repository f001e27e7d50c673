"""The names of rows on operator pages. The pages of the lower floors find and name users and API keys through the site.

`site.directory` is `accounts.directory`, which this package may not import.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from django.contrib.admin import AdminSite
from django.utils.html import format_html
from django.utils.safestring import SafeString


@dataclass(frozen=True, slots=True)
class Name:
    """How pages show an id, and the page about its row, if there is one. `is_gone` marks a row that was deleted."""

    text: str
    url: str = ""
    is_gone: bool = False

    def as_html(self) -> SafeString:
        """Return the name, as a link if there is a page."""
        faint = " faint" if self.is_gone else ""
        shown = format_html('<span class="cut{}" title="{}">{}</span>', faint, self.text, self.text)
        return format_html('<a href="{}">{}</a>', self.url, shown) if self.url else shown


class Directory(Protocol):
    """Finds and names users and API keys. A subject is `user:<id>`, `key:<id>`, or "" for everyone."""

    def find_subject(self, text: str) -> str:
        """Return the subject that an operator means; raise ValidationError that says what was not found."""

    def suggestions(self, text: str) -> list[str]:
        """Return emails of users that begin with the text, or whose usernames do."""

    def names_of(self, who: Iterable[str]) -> Mapping[str, Name]:
        """Return the names of subjects, of ids of users, and of emails; those that are unknown are left out."""

    def whom_a_limit_affects(self, tier: str, subject: str) -> str:
        """Return in words whom a limit rule would affect."""

    def whom_an_address_rule_affects(self, network: str) -> str:
        """Return in words whom a rule for the network would affect."""


def directory_of(site: AdminSite) -> Directory:
    """Return the directory of the site."""
    owner: Any = site
    found: Directory = owner.directory
    return found
