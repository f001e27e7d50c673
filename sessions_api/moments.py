"""The time, as every database keeps it."""

from datetime import datetime

from django.utils import timezone


def moment() -> datetime:
    """Return the time of now in whole milliseconds, as MongoDB keeps it: what is answered is what will be read."""
    now = timezone.now()
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
