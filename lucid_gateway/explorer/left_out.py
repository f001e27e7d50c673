"""How many requests of the last day should have been kept, but were left out."""

import time
from collections.abc import Mapping

from django.conf import settings

from lucid_gateway.explorer.pruning import ROW_CAP
from lucid_gateway.figures.reading import cover_until_now, history
from lucid_gateway.server.kept_requests import A_SECOND, BUFFER_FULL, CALLER_CAP, GATEWAY_CAP, LEFT_OUT, OF_ONE_CALLER

HOUR = 3600
WORDS = {
    GATEWAY_CAP: f"a gateway keeps at most {A_SECOND} a second",
    CALLER_CAP: f"of one address or user, a gateway keeps at most {OF_ONE_CALLER} a second",
    BUFFER_FULL: "a worker had no time to write them",
    "database": "the database was unavailable",
    ROW_CAP: "there is a maximum of rows, so the oldest were deleted early",
}


def left_out(now: float | None = None) -> list[tuple[int, str]]:
    """Return how many requests were left out since the hour began that is the oldest kept one, and why, largest first.

    Raises django.db.Error.
    """
    now = time.time() if now is None else now
    since = int(now) // HOUR * HOUR - settings.ENV.EXPLORER_KEEP_HOURS * HOUR
    counts: Mapping[str, int] = history.add_up("requests", cover_until_now(since, now), now).get(LEFT_OUT, {})
    return sorted(((count, WORDS.get(name, name)) for name, count in counts.items()), reverse=True)
