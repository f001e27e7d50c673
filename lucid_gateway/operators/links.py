"""Links to pages of other apps, which an app knows only by their URL names."""

from typing import Any
from urllib.parse import urlencode

from django.urls import NoReverseMatch, reverse


def page(name: str, *args: Any, **query: str) -> str:
    """Return the address of a page with a query, or an empty text if this gateway has no such page."""
    try:
        address = reverse(name, args=args)
    except NoReverseMatch:
        return ""
    return f"{address}?{urlencode(query)}" if query else address
