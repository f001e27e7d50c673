"""The clocks of the gateway, the database and Redis, and how far they may differ.

The database's clock gives the times of revocations, and Redis's clock ends its entries. The gateway's own clock only
decides whether a token has expired.
"""

import time
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import connection

from lucid_gateway.kernel.advisories import advisories

# A revocation outlives its token by this much, for gateways whose clocks are behind.
MAX_CLOCK_SKEW = timedelta(hours=1)
NOTICED_SECONDS = 5.0


def now_ms() -> datetime:
    """Return the time in whole milliseconds, as MongoDB stores it, so that answers before and after a read agree."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def database_now() -> datetime:
    """Return the database's time; raise django.db.Error. For SQLite that is the time of this machine."""
    if not settings.ON_MONGODB:
        return datetime.now(UTC)
    connection.ensure_connection()
    local_time: datetime = connection.server_time()  # type: ignore[attr-defined]
    return local_time.replace(tzinfo=UTC)


def compare_clock(whose: str, now: float, *, asked_at: float) -> None:
    """Warn the operator while the clock of `whose` server and this gateway's differ by more than five seconds.

    The server reported `now` for a query sent at `asked_at` (both in epoch seconds). The round trip does not count as
    a difference.
    """
    ahead = asked_at - now if now < asked_at else min(0.0, time.time() - now)
    if abs(ahead) > NOTICED_SECONDS:
        direction = "ahead of" if ahead > 0 else "behind"
        text = f"The clock of this gateway is {abs(ahead):.0f} s {direction} that of {whose}: synchronise both by NTP."
        advisories.set(f"clock of {whose}", text)
    else:
        advisories.clear(f"clock of {whose}")
