"""The clocks of the gateway, the database and Redis: how far they may differ, and how far this gateway's is off.

The times of revocations are the database's, the lives of entries in Redis are counted by Redis. What is left to the
gateway's own clock is whether a token has expired.
"""

import time
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection

from lucid_gateway.kernel.advisories import advisories

# A revocation outlives its token by this much, for gateways whose clocks are behind.
MAX_CLOCK_SKEW = timedelta(hours=1)
NOTICED_SECONDS = 5.0


def database_now() -> datetime:
    """Return the database's time; raise django.db.Error. SQLite has no clock but this machine's."""
    if not settings.ON_MONGODB:
        return datetime.now(UTC)
    connection.ensure_connection()
    with connection.wrap_database_errors:
        local_time: datetime = connection.database.command("hello")["localTime"]  # type: ignore[attr-defined]
    return local_time.replace(tzinfo=UTC)


def compare_clock(whose: str, now: float, *, asked_at: float) -> None:
    """Compare a clock that said `now` when it was asked at `asked_at` (epoch seconds) with this gateway's, and advise
    the operator while they differ by more than five seconds. What the answer took to come is no difference.
    """
    ahead = asked_at - now if now < asked_at else min(0.0, time.time() - now)
    if abs(ahead) > NOTICED_SECONDS:
        direction = "ahead of" if ahead > 0 else "behind"
        text = f"The clock of this gateway is {abs(ahead):.0f} s {direction} that of {whose}: synchronise both by NTP."
        advisories.give(f"clock of {whose}", text)
    else:
        advisories.take_back(f"clock of {whose}")
