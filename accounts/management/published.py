"""Commands wait for their revocations to reach Redis, because the publisher ends with the process."""

from django.core.management.base import CommandError

from accounts.tokens.revocation.publishing import publisher

WAIT_SECONDS = 10.0


def wait_until_published() -> None:
    """Return once Redis has every revocation of this process; raise CommandError if it stays unavailable."""
    if not publisher.wait(WAIT_SECONDS):
        raise CommandError(
            "the database is done, but Redis is unavailable: run rebuild_blacklist when it is available again"
        )
