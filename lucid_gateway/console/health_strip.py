"""The strip of health on every page: what is well in a word, what is not with its cause and a link.

What is down is also said in a banner, in the words of its alarm.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from django.conf import settings

from lucid_gateway.console.alarms.alarm import BAD, WARN, Alarm
from lucid_gateway.console.alarms.clusters import alarms_of
from lucid_gateway.console.alarms.edges import edges_of
from lucid_gateway.console.alarms.systems import lost_redis, silent_database, unsent_mail
from lucid_gateway.console.health_details import OK, Item, cluster_details, edge_details, gateway_detail
from lucid_gateway.console.remembered import Remembered
from lucid_gateway.console.store_outages import database_silent_seconds, lost_nodes, redis_lost_seconds
from lucid_gateway.figures.gateways import GatewayState, read_gateways_and_workers
from lucid_gateway.figures.reading import read_lately
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.operators.links import page
from lucid_gateway.operators.numbers import counted
from proxy.edge.state import EdgeState
from proxy.operators.overview import CLOSED, ClusterView, clusters


@dataclass(frozen=True)
class Health:
    """What the figures and Redis say: the gateways first, and alarms about the mail and clusters that are down.

    `gateways`, `edges` and `clusters` have one item for each.
    """

    items: tuple[Item, ...]
    down: tuple[Alarm, ...] = ()
    gateways: tuple[Item, ...] = ()
    edges: tuple[Item, ...] = ()
    clusters: tuple[Item, ...] = ()


def items() -> list[Item]:
    """Return the strip; it needs a few microseconds, or a third of a second while the database hangs."""
    found = health.get().items
    if health.is_stale:
        found = (Item("Gateways and clusters", WARN, "unknown", page("alarms")),)
    gateways, others = found[:1], found[1:]
    return [*gateways, redis(), database(), *others]


def details() -> list[Item]:
    """Return the health of each gateway and edge, of Redis, the database and the mail, and of each cluster."""
    found = health.get()
    if health.is_stale:
        return items()
    stores = [item if item.words else replace(item, words="answers") for item in (redis(), database())]
    return [*found.gateways, *found.edges, *stores, *found.items[1:2], *found.clusters]


def outages() -> list[Alarm]:
    """Return what is down now: Redis, the database, the mail and clusters. It takes as long as the strip."""
    found = health.get().down
    return [*lost_redis(), *silent_database(), *(() if health.is_stale else found)]


def redis() -> Item:
    if redis_lost_seconds() is None:
        return Item("Redis")
    lost = len(lost_nodes())
    return Item("Redis", BAD, f"{counted(lost, 'node')} unavailable" if lost else "unavailable", page("alarms"))


def database() -> Item:
    silent = database_silent_seconds()
    return Item("Database") if silent is None else Item("Database", BAD, "unavailable", page("alarms"))


def compute() -> Health:
    """Return the gateways, the mail and the clusters; raise django.db.Error."""
    now = time.time()
    views, known = clusters()
    alarms = [alarm for view in views if known for alarm in alarms_of(view) if alarm.severity == BAD]
    found = read_gateways_and_workers(now)
    at_front = known_edges(found, now)
    return Health(
        (gateways(found, now), mail(now), *edges(at_front, now), *clusters_of(views, known)), (*alarms, *unsent_mail()),
        tuple(gateway_detail(gateway, now) for gateway in found), tuple(edge_details(at_front, now)),
        tuple(cluster_details(views, known)),
    )  # fmt: skip


def known_edges(found: Sequence[GatewayState], now: float) -> list[EdgeState]:
    """Return the edges of the gateways that are alive, none while Redis is unavailable, which the strip says itself."""
    try:
        return edges_of(found, now)
    except RedisUnavailable:
        return []


def gateways(found: Sequence[GatewayState], now: float) -> Item:
    """Return how many gateways write figures, how many have stopped in the last ten minutes, and silent workers."""
    living = sum(gateway.is_living(now) for gateway in found)
    name, silent = counted(living, "gateway"), len(found) - living
    workers = sum(len(gateway.silent_workers) for gateway in found)
    words = f"alive, {silent} silent" if silent else f"with {counted(workers, 'silent worker')}" if workers else ""
    return Item(name, WARN, words, page("alarms")) if words else Item(name, link=f"{page('index')}#health")


def mail(now: float) -> Item:
    """Return whether mails were sent in the last ten minutes."""
    if not settings.ENV.EMAIL_HOST:
        return Item("Mail", WARN if settings.ENV.in_production else OK, "goes to the log")
    failed = read_lately(now).groups.get("mail", {}).get("failed", 0)
    return Item("Mail", WARN, f"{failed} not sent", page("alarms")) if failed else Item("Mail")


def edges(found: Sequence[EdgeState], now: float) -> Iterator[Item]:
    """Yield one item for all edges, if there are any: how many are silent or have an old snapshot."""
    silent = sum(edge.is_silent(now) for edge in found)
    old = sum(edge.has_old_snapshot for edge in found if not edge.is_silent(now))
    problems = [f"{number} {words}" for number, words in ((silent, "silent"), (old, "with an old snapshot")) if number]
    if problems:
        yield Item(counted(len(found), "edge"), WARN, ", ".join(problems), page("alarms"))
    elif found:
        yield Item(counted(len(found), "edge"), link=f"{page('index')}#health")


def clusters_of(views: list[ClusterView], known: bool) -> Iterator[Item]:
    """Yield each cluster that is not well, and the number of the others."""
    link = page("proxy_maintenance_changelist")
    if not known:
        yield Item(counted(len(views), "cluster"), WARN, "not known without Redis", link)
        return
    well = 0
    for view in views:
        if view.serving == len(view.instances):
            well += 1
        else:
            tone = BAD if view.serving == 0 else WARN
            words = "out of service" if view.state == CLOSED else f"{view.serving} of {len(view.instances)}"
            yield Item(view.name, tone, words, link)
    if well:
        yield Item(counted(well, "cluster" if well == len(views) else "other cluster"), link=link)


health: Remembered[Health] = Remembered(compute, Health((Item("Gateways", WARN, "unknown"),)))
