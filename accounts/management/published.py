"""Waiting until what a command revoked is written to Redis: a command must not end before."""

from django.core.management.base import CommandError

from accounts.tokens.revocation.publishing import publisher

WAIT_SECONDS = 10.0


def wait_until_published() -> None:
    """Return once Redis has every revocation of this process; raise CommandError if it stays unavailable."""
    if not publisher.wait(WAIT_SECONDS):
        raise CommandError(
            "done in the database, but Redis is unavailable: run rebuild_blacklist as soon as it is available again"
        )
