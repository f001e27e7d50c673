"""Links to operator pages, also to those of higher apps, which an app knows only by their URL names."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from django.db.models import Model
from django.urls import NoReverseMatch, reverse


def page(name: str, *args: object, **query: object) -> str:
    """Return the address of an operator page, with the query's values that are not empty.

    `name` is the URL name without `admin:`. The address is empty if no URL can hold the arguments, such as a request id
    with a slash.
    """
    try:
        address = reverse(f"admin:{name}", args=args)
    except NoReverseMatch:
        return ""
    filled = {key: value for key, value in query.items() if value not in ("", None)}
    return f"{address}?{urlencode(filled)}" if filled else address


def change_page(row: Model) -> str:
    """Return the address of the page of a row."""
    return page(f"{row._meta.app_label}_{row._meta.model_name}_change", row.pk)


def requests_page(**filters: object) -> str:
    """Return the address of the request explorer with these filters."""
    return page("requests", **filters)


def events_page(*types: str, since: str = "", **filters: object) -> str:
    """Return the address of the audit log with the events of these types, since a time as `time_of` writes it."""
    return page("audit_auditevent_changelist", type=",".join(types), created_at__gte=since, **filters)


def block_page(network: str) -> str:
    """Return the address of the form that blocks an address or network for a day, empty for an empty text."""
    return page("ratelimit_addressrule_add", network=network, kind="blocked") if network else ""


def time_of(seconds: float) -> str:
    """Return a time, in seconds since the epoch, as the filters of lists read it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
