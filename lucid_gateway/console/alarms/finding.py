"""All kinds of alarms: one row per kind, with the function that finds its alarms.

A source that fails leaves the others; nothing here changes anything.
"""

import logging
import time

from django.db import Error as DatabaseProblem

from accounts.tokens.signing_keys import ROTATE_AFTER
from lucid_gateway.console.alarms.alarm import BAD, WARN, Alarm, Kind
from lucid_gateway.console.alarms.clusters import clusters_that_fail
from lucid_gateway.console.alarms.edges import edges_that_fail
from lucid_gateway.console.alarms.security import (
    LOCKOUT_SURGE,
    REMIND_OF_ROTATION,
    many_lockouts,
    old_signing_key,
    punished_networks,
    reused_tokens,
)
from lucid_gateway.console.alarms.systems import (
    advice,
    database_alarm,
    lost_redis,
    silent_database,
    silent_gateways,
    slow_database,
    unsent_mail,
)
from lucid_gateway.console.remembered import PATIENCE_SECONDS, Remembered
from lucid_gateway.kernel.redis.access import RedisUnavailable

logger = logging.getLogger(__name__)
SLOW_SECONDS = 2.0  # for the few queries of all kinds

KINDS = (
    Kind("redis", "Redis is unavailable to this gateway.", lost_redis),
    Kind("database", "The database is unavailable or slow.", silent_database),
    Kind("clusters", "A cluster or one of its instances is down, or a circuit breaker is open.", clusters_that_fail),
    Kind("token_reuse", "A refresh token was used twice in the last 24 hours.", reused_tokens),
    Kind("lockouts", f"{LOCKOUT_SURGE} lockouts began in ten minutes.", many_lockouts),
    Kind("networks", "The gateway has halved the limits of a network, or blocked it.", punished_networks),
    Kind(
        "signing_key",
        f"The signing key is due for rotation in {REMIND_OF_ROTATION.days} days or less: a key should sign for at most"
        f" {ROTATE_AFTER.days} days.",
        old_signing_key,
    ),
    Kind("gateways", "A gateway has written no figures for 40 seconds, or a worker is silent.", silent_gateways),
    Kind("edges", "An edge is silent, or its snapshot is older than ten seconds.", edges_that_fail),
    Kind("mail", "A mail could not be sent in the last ten minutes.", unsent_mail),
    Kind("advisories", "A setting or a server needs attention.", advice),
)  # fmt: skip


def find_alarms() -> tuple[Alarm, ...]:
    """Return the open alarms, the bad ones first. The number of queries is constant."""
    found: list[Alarm] = []
    started = time.monotonic()
    for kind in KINDS:
        try:
            found += kind.find()
        except RedisUnavailable:
            continue  # Redis has an alarm of its own
        except DatabaseProblem as error:
            logger.warning("alarms not read", extra={"kind": kind.name, "error": type(error).__name__})
            if not any(alarm.kind == "database" for alarm in found):
                found.append(database_alarm("The database does not answer"))
    taken = time.monotonic() - started
    if taken > SLOW_SECONDS and not any(alarm.kind == "database" for alarm in found):
        found.append(slow_database(taken))
    return tuple(sorted(found, key=lambda alarm: alarm.severity != BAD))


remembered: Remembered[tuple[Alarm, ...]] = Remembered(find_alarms, ())


def open_alarms(patience: float = PATIENCE_SECONDS) -> tuple[Alarm, ...]:
    """Return the open alarms as of the last two seconds; wait up to `patience` seconds for newer ones."""
    return remembered.get(patience)


def shown_alarms() -> tuple[Alarm, ...]:
    """Return what the pages show: the open alarms, and one about the alarms themselves if they are not current."""
    return (*open_alarms(), *not_current())


def count(*kinds: str) -> int:
    """Return the number of open alarms, or of those of some kinds, for the menu."""
    return sum(not kinds or alarm.kind in kinds for alarm in open_alarms())


def not_current() -> tuple[Alarm, ...]:
    """Return an alarm about the alarms themselves if they are old or not known, because a store does not answer."""
    if not remembered.is_stale:
        return ()
    known = remembered.age < float("inf")
    title = f"The alarms are {remembered.age:.0f} s old" if known else "The alarms are not known"
    return (Alarm("alarms", WARN, title, "Redis or the database does not answer this gateway."),)
