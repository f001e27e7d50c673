"""The names of users and API keys beside their ids, and links to their pages."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.utils.html import escape, format_html
from django.utils.safestring import SafeString

from accounts.models import ApiKey, User
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.operators.directory import Name
from lucid_gateway.operators.links import page
from lucid_gateway.operators.search import KEY_ID

USER_PAGE, KEY_PAGE = "accounts_user_change", "accounts_apikey_change"


def link(address: str, text: object) -> SafeString:
    """Return the text, as a link if there is an address."""
    return format_html('<a href="{}">{}</a>', address, text) if address else escape(text)


@dataclass(frozen=True)
class Names:
    """Users by id and API keys by id; ids without a row have no entry."""

    users: dict[str, User] = field(default_factory=dict)
    keys: dict[str, ApiKey] = field(default_factory=dict)

    def user(self, user_id: str) -> Name:
        """Return the email of a user, or the id without a row."""
        user = self.users.get(user_id)
        return Name(user.email, page(USER_PAGE, user_id)) if user else Name(user_id)

    def key(self, key_id: str) -> Name:
        """Return the name of an API key, or the id without a row."""
        key = self.keys.get(key_id)
        return Name(key.name, page(KEY_PAGE, key_id)) if key else Name(key_id)


def names_of(rows: Iterable[KeptRequest]) -> Names:
    """Return the names in the rows: two queries at most."""
    rows = list(rows)
    user_ids = {row.user_id for row in rows if is_uuid(row.user_id)}
    key_ids = {row.credential_id for row in rows if row.credential_kind == "api_key"}
    keys = ApiKey.objects.filter(pk__in=[key for key in key_ids if KEY_ID.fullmatch(key)]) if key_ids else []
    by_id = {key.key_id: key for key in keys}
    user_ids |= {str(key.user_id) for key in by_id.values()}
    users = User.objects.filter(pk__in=user_ids) if user_ids else []
    return Names({str(user.pk): user for user in users}, by_id)


def is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
