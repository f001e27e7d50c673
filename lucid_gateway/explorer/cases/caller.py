"""Who sent a request."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts import directory
from accounts.models import ApiKey, User
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.explorer.naming import Names, link, names_of
from lucid_gateway.operators.directory import Name
from lucid_gateway.operators.links import page
from lucid_gateway.policy.reasons import Step
from lucid_gateway.policy.tiers import TIERS, Counts


class Operator(Protocol):
    """Whoever reads the page: a user, or the caller of the API."""

    @property
    def pk(self) -> Any: ...
    @property
    def role(self) -> str: ...


class CallerWords:
    """Who sent the request. `by` is the operator who reads about it; without one, no button changes anything.

    `notes` says more about steps, and `unknown` names those that could not be decided: only a preview has them.
    """

    notes: Mapping[Step, str] = {}
    unknown: frozenset[Step] = frozenset()

    def __init__(self, row: KeptRequest, names: Names | None = None, *, by: Operator | None = None) -> None:
        self.row = row
        self.names = names_of([row]) if names is None else names
        self.by = by

    @property
    def is_key(self) -> bool:
        return self.row.credential_kind == "api_key"

    @cached_property
    def key_row(self) -> ApiKey | None:
        return self.names.keys.get(self.row.credential_id) if self.is_key else None

    @cached_property
    def user_id(self) -> str:
        """The user's id; for an API key whose secret was not checked, its owner's."""
        return self.row.user_id or (str(self.key_row.user_id) if self.key_row else "")

    @property
    def user_row(self) -> User | None:
        return self.names.users.get(self.user_id)

    @property
    def user(self) -> SafeString:
        return self.names.user(self.user_id).as_html() if self.user_id else SafeString("somebody unknown")

    @property
    def key(self) -> SafeString:
        return self.names.key(self.row.credential_id).as_html() if self.row.credential_id else SafeString("")

    @property
    def credential(self) -> SafeString:
        """The API key, or the token with a link to it; empty without either."""
        if not self.row.credential_id:
            return SafeString("")
        if self.is_key:
            return self.key
        return link(page("accounts_issuedtoken_changelist", q=self.row.credential_id), "token")

    @property
    def who(self) -> SafeString:
        """Whom the request counts for, at the beginning of a sentence."""
        if self.is_key:
            return format_html("The API key {}", self.key)
        if self.user_id:
            return format_html("The user {}", self.user)
        return format_html("The address {}", self.address)

    @property
    def is_counted_by_address(self) -> bool:
        """Whether the limiter counted the request for its address, as it does without a valid credential."""
        tier = TIERS.get(str(self.row.limits.get("tier", "")))
        return tier is not None and tier.subject == Counts.ADDRESS

    @property
    def counted(self) -> SafeString:
        """Whose requests the limiter counts together, at the beginning of a sentence."""
        return format_html("The address {}", self.address) if self.is_counted_by_address else self.who

    @property
    def subject(self) -> str:
        """The subject of operators' limit rules for the caller, "" for an address."""
        if self.is_key:
            return f"key:{self.row.credential_id}"
        return f"user:{self.row.user_id}" if self.row.user_id else ""

    @property
    def address(self) -> SafeString:
        shown = self.row.address or "unknown"
        return link(page("requests", address=shown) if self.row.address_key else "", shown)

    def person(self, who: str) -> SafeString:
        """Return the name of an operator as a link; `who` is an id, an email or the name of a command."""
        if who in self.names.users:
            return self.names.user(who).as_html()
        return directory.names_of([who]).get(who, Name(who)).as_html()
