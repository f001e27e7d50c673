"""The current time in the precision that every database stores."""

from datetime import datetime

from django.utils import timezone


def now_ms() -> datetime:
    """Return the time in whole milliseconds, as MongoDB stores it, so that answers before and after a read agree."""
    now = timezone.now()
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
