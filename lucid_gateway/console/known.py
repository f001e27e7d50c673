"""Reads that may fail without failing the page."""

from collections.abc import Callable
from typing import TypeVar

from django.db import Error

from lucid_gateway.kernel.redis.access import RedisUnavailable

T = TypeVar("T")


def known(read: Callable[[], T]) -> T | None:
    """Return what `read` returns, or None while Redis or the database does not answer it."""
    try:
        return read()
    except (RedisUnavailable, Error):
        return None
