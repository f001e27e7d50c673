"""Links to the lists behind the console's numbers."""

from urllib.parse import urlencode

from django.urls import NoReverseMatch, reverse


def page(name: str, *arguments: object, **query: object) -> str:
    """Return the address of an operator page, with the query's values that are not empty; "" without such a page."""
    try:
        address = reverse(f"admin:{name}", args=arguments)
    except NoReverseMatch:
        return ""
    filled = {key: value for key, value in query.items() if value not in ("", None)}
    return f"{address}?{urlencode(filled)}" if filled else address


def requests_page(**filters: object) -> str:
    """Return the address of the request explorer with these filters."""
    return page("requests", **filters)
