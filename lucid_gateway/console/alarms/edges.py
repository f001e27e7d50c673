"""Alarms about edges that are silent, or that leave everything to their gateway."""

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from django.conf import settings

from lucid_gateway.console.alarms.alarm import WARN, Alarm
from lucid_gateway.figures.gateways import GatewayState, read_gateways
from proxy.edge.state import KEPT_SECONDS, EdgeState, read_edges


def edges_of(gateways: Iterable[GatewayState], now: float) -> list[EdgeState]:
    """Return the edges of these gateways; that of a silent gateway is not known. Raises RedisUnavailable."""
    return read_edges(gateway.name for gateway in gateways if gateway.is_living(now))


def edges_that_fail() -> Iterator[Alarm]:
    now = time.time()
    for edge in edges_of(read_gateways(now), now) if settings.ENV.EDGE_SECRET else ():
        if edge.is_silent(now):
            yield Alarm(
                "edge", WARN, f"The edge of the gateway {edge.gateway} is silent",
                "It was stopped, or cannot write to Redis. If it should run, look at the log of nginx. This alarm ends"
                f" {KEPT_SECONDS // 60} minutes after its last report.",
                since=datetime.fromtimestamp(edge.at, UTC),
            )  # fmt: skip
        elif edge.has_old_snapshot:
            yield Alarm(
                "edge", WARN,
                f"The snapshot of the edge of the gateway {edge.gateway} is {edge.snapshot_age:.0f} s old",
                "The edge leaves all requests to the gateway, which needs far more processor time for them. The"
                " gateway's log says why it does not publish.",
            )  # fmt: skip
