"""Times and stored values in sentences, and sentences without HTML."""

from datetime import UTC, datetime
from html import unescape
from typing import Any

from django.utils.dateparse import parse_datetime
from django.utils.html import strip_tags
from django.utils.safestring import SafeString

from lucid_gateway.operators.templatetags.console import time_element


def clock(moment: datetime | None) -> SafeString:
    """Return a time of today to the second, another to the minute with its date, in UTC until the page's script shows
    it in the viewer's zone.
    """
    if moment is None:
        return SafeString("")
    utc = moment.astimezone(UTC)
    is_today = utc.date() == datetime.now(UTC).date()
    return time_element(moment, f"{utc:%H:%M:%S}" if is_today else f"{utc:%Y-%m-%d %H:%M}")


def is_past(moment: datetime | None) -> bool:
    return moment is not None and moment <= datetime.now(UTC)


def number(value: Any) -> int | None:
    """Return a number that may be stored as text, None for anything else."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def moment(value: Any) -> datetime | None:
    """Return a stored time, None if there is none."""
    parsed = parse_datetime(value) if isinstance(value, str) else None
    return parsed.replace(tzinfo=UTC) if parsed and parsed.tzinfo is None else parsed


def plain(html: str) -> str:
    """Return HTML of ours as text, its lines separated by semicolons."""
    return unescape(strip_tags(html.replace("<br>", "; "))).strip()
