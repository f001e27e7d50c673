"""Alarms about what the gateway itself runs on: Redis, the database, its own workers, the mail and its settings."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from lucid_gateway.console.alarms.alarm import BAD, WARN, Alarm, ago, links
from lucid_gateway.console.store_outages import database_silent_seconds, lost_nodes, redis_lost_seconds
from lucid_gateway.figures.gateways import GatewayState, read_gateways_and_workers
from lucid_gateway.figures.reading import read_lately
from lucid_gateway.figures.stores import FORGOTTEN_SECONDS
from lucid_gateway.kernel.advisories import advisories
from lucid_gateway.operators.links import requests_page


def lost_redis() -> Iterator[Alarm]:
    lost = redis_lost_seconds()
    if lost is not None:
        nodes = ", ".join(lost_nodes())
        title = f"A part of the Redis Cluster is unavailable: {nodes}" if nodes else "Redis is unavailable"
        what = (
            "Each worker counts the limits of the users whose keys are there on its own, and their logins fail."
            if nodes
            else "Each worker counts limits on its own, and logins fail."
        )
        yield Alarm(
            "redis", BAD, title,
            f"{what} The gateway reads revoked tokens from the database. Check the Redis server and the network to it.",
            since=ago(lost),
            links=links(("Requests that failed", requests_page(reason="redis_unavailable", since="1h"))),
        )  # fmt: skip


def silent_database() -> Iterator[Alarm]:
    silent = database_silent_seconds()
    if silent is not None:
        yield database_alarm("The database is unavailable", ago(silent))


def database_alarm(title: str, since: datetime | None = None) -> Alarm:
    return Alarm(
        "database", BAD, title,
        "Tokens and forwarded requests still work. Logins and changes fail, and the console shows old figures. Check"
        " the database server and its disk.",
        since=since,
        links=links(("Requests that failed", requests_page(reason="database_unavailable", since="1h"))),
    )  # fmt: skip


def slow_database(seconds: float) -> Alarm:
    text = f"A few small queries took {seconds:.1f} s. Logins and the pages of the console are slow."
    return Alarm("database", WARN, "The database is slow", text)


def silent_gateways() -> Iterator[Alarm]:
    """Yield an alarm for each gateway that has written no figures for a while, and for lost workers of the others."""
    now = time.time()
    for gateway in read_gateways_and_workers(now):
        if not gateway.is_living(now):
            yield Alarm(
                "gateway", WARN, f"The gateway {gateway.name} is silent",
                "It was stopped, or cannot write to the database. If it should run, look at its log. This alarm ends"
                f" {FORGOTTEN_SECONDS // 60} minutes after its last figures.",
                since=datetime.fromtimestamp(gateway.up_to, UTC),
            )  # fmt: skip
        elif gateway.silent_workers:
            yield lost_workers(gateway)


def lost_workers(gateway: GatewayState) -> Alarm:
    lost, living = gateway.silent_workers, gateway.living_workers
    one = len(lost) == 1
    workers, subject = ("A worker", "It hangs or was") if one else (f"{len(lost)} workers", "They hang or were")
    others = f"{living} other worker{' is' if living == 1 else 's are'} alive"
    return Alarm(
        "worker", WARN, f"{workers} of the gateway {gateway.name} {'is' if one else 'are'} silent",
        f"{subject} killed, for example because memory ran out (process {', '.join(sorted(lost))}). {others}. The"
        " gateway's log says more.",
        since=datetime.fromtimestamp(gateway.up_to - max(lost.values()), UTC),
    )  # fmt: skip


def unsent_mail() -> Iterator[Alarm]:
    failed = read_lately().groups.get("mail", {}).get("failed", 0)
    if failed:
        mails = "A mail" if failed == 1 else f"{failed:,} mails"
        yield Alarm(
            "mail", WARN, f"{mails} could not be sent in the last ten minutes",
            "Users wait for codes and links. The gateway's log gives the error (`mail not sent`).",
        )  # fmt: skip


def advice() -> Iterator[Alarm]:
    for text in advisories.texts():
        yield Alarm("advisory", WARN, "A setting or a server needs attention", text)
