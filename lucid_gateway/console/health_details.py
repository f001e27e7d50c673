"""The health of each gateway and each cluster in a few words, for the overview."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lucid_gateway.console.alarms.alarm import BAD, WARN
from lucid_gateway.figures.gateways import GatewayState
from lucid_gateway.operators.links import page
from lucid_gateway.operators.numbers import counted
from proxy.edge.state import EdgeState
from proxy.operators.overview import CLOSED, ClusterView

OK = "ok"


@dataclass(frozen=True)
class Item:
    """A dependency: its tone is ok, warn or bad; `words` say what is not well."""

    name: str
    tone: str = OK
    words: str = ""
    link: str = ""


def gateway_detail(gateway: GatewayState, now: float | None = None) -> Item:
    """Return how many workers of the gateway are alive, or since when the whole gateway is silent."""
    now = time.time() if now is None else now
    if not gateway.is_living(now):
        return Item(gateway.name, BAD, f"silent for {words_of(now - gateway.up_to)}", page("alarms"))
    living, silent = gateway.living_workers, len(gateway.silent_workers)
    if not gateway.workers:
        return Item(gateway.name, OK, "alive")
    words = f"{counted(living, 'worker')}, {silent} silent" if silent else counted(living, "worker")
    return Item(gateway.name, WARN if silent else OK, words, page("alarms") if silent else "")


def edge_details(edges: Iterable[EdgeState], now: float) -> Iterator[Item]:
    """Yield for each edge how many requests a second it decides and how old its snapshot is."""
    for edge in edges:
        name, link = f"Edge of {edge.gateway}", page("alarms")
        if edge.is_silent(now):
            yield Item(name, WARN, f"silent for {words_of(now - edge.at)}", link)
            continue
        snapshot = "no snapshot yet" if edge.snapshot_age is None else f"snapshot {edge.snapshot_age:.1f} s old"
        words = f"{edge.per_second:,}/s, {snapshot}"
        yield Item(name, WARN, words, link) if edge.has_old_snapshot else Item(name, OK, words, page("routes"))


def words_of(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def cluster_details(views: list[ClusterView], known: bool) -> Iterator[Item]:
    """Yield how many instances of each cluster serve."""
    for view in views:
        of, link = counted(len(view.instances), "instance"), page("proxy_maintenance_changelist")
        if not known:
            yield Item(view.name, WARN, "not known without Redis", link)
        elif view.state == CLOSED and view.serving == 0:
            yield Item(view.name, BAD, "out of service", link)
        else:
            tone = OK if view.serving == len(view.instances) else WARN if view.serving else BAD
            yield Item(view.name, tone, f"{view.serving} of {of}", link)
