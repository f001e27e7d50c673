"""Reads which gateways and workers are alive, from the newest rows that the gateways have written."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from django.db.models import Max

from lucid_gateway.figures.ledger import WORKERS
from lucid_gateway.figures.models import Sample, unpacked
from lucid_gateway.figures.stores import FORGOTTEN_SECONDS
from lucid_gateway.server.samples import SECONDS

LIVING_SECONDS = 40
# A worker says every two seconds that it is alive.
WORKER_LIVING_SECONDS = 20


@dataclass(frozen=True)
class GatewayState:
    """A gateway that has written in the last ten minutes; `up_to` is the end of its newest sample (epoch seconds).

    `workers` has the process id of each worker, and since how many seconds it had been silent then. Workers that ended
    as they should are not in it, workers that were lost are in it for ten minutes.
    """

    name: str
    up_to: int
    workers: Mapping[str, int] = field(default_factory=dict)

    def is_living(self, now: float) -> bool:
        return now - self.up_to <= LIVING_SECONDS

    @property
    def living_workers(self) -> int:
        return len(self.workers) - len(self.silent_workers)

    @property
    def silent_workers(self) -> dict[str, int]:
        return {pid: seconds for pid, seconds in self.workers.items() if seconds > WORKER_LIVING_SECONDS}


def read_gateways(now: float | None = None) -> tuple[GatewayState, ...]:
    """Return the gateways that have written in the last ten minutes, by name, without their workers.

    Raises django.db.Error.
    """
    return tuple(GatewayState(name, start + SECONDS) for name, start in sorted(newest_rows(now or time.time()).items()))


def read_gateways_and_workers(now: float | None = None) -> tuple[GatewayState, ...]:
    """Return the same gateways with the workers of those that are alive; raise django.db.Error."""
    now = time.time() if now is None else now
    newest = newest_rows(now)
    workers = workers_of(newest, now)
    return tuple(GatewayState(name, newest[name] + SECONDS, workers.get(name, {})) for name in sorted(newest))


def newest_rows(now: float) -> dict[str, int]:
    """Return the start of the newest row of each gateway."""
    rows = Sample.objects.filter(seconds=SECONDS, start__gte=int(now) - FORGOTTEN_SECONDS).order_by()
    return {row["gateway"]: row["newest"] for row in rows.values("gateway").annotate(newest=Max("start"))}


def workers_of(newest: Mapping[str, int], now: float) -> dict[str, dict[str, int]]:
    """Return the workers of each gateway from the newest row that has them; the row of the current ten seconds has not.

    Without a shared folder each worker writes rows of its own, up to ten seconds apart.
    """
    rows = Sample.objects.filter(seconds=SECONDS, start__gte=int(now) - LIVING_SECONDS - SECONDS).order_by("start")
    lives: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for key, gateway, start, data in rows.values_list("sample_id", "gateway", "start", "requests"):
        groups = unpacked(data) if start >= newest[gateway] - 2 * SECONDS else {}
        if WORKERS in groups:
            lives[gateway][key.partition(" ")[0]] = groups[WORKERS]
    return {gateway: united(workers.values()) for gateway, workers in lives.items()}


def united(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    return {pid: seconds for part in parts for pid, seconds in part.items()}
