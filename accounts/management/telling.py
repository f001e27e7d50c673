"""Commands end only when Redis knows what they revoked."""

from django.core.management.base import CommandError

from accounts.tokens.revocation.publishing import publisher

WAIT_SECONDS = 10.0


def wait_until_told() -> None:
    """Return once Redis knows; raise CommandError if it cannot be had."""
    if not publisher.wait(WAIT_SECONDS):
        raise CommandError(
            "done in the database, but Redis could not be told: run rebuild_blacklist as soon as it can be reached"
        )
