"""What each edge has said of itself lately. It stays in Redis for ten minutes, so that a silent edge is missed."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings

from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.kernel.redis.access import redis_call
from lucid_gateway.policy import keys

CURRENT_SECONDS = 10.0  # the edge leaves everything to the gateway while its snapshot is older
KEPT_SECONDS = 600


@dataclass(frozen=True)
class EdgeState:
    """The edge of a gateway when it last reported, `at` (epoch seconds): the age of the oldest snapshot of its
    workers in seconds, None before the first one, and the requests that it decided in a second.
    """

    gateway: str
    at: float
    snapshot_age: float | None
    per_second: int

    def is_silent(self, now: float) -> bool:
        return now - self.at > CURRENT_SECONDS

    @property
    def has_old_snapshot(self) -> bool:
        return self.snapshot_age is not None and self.snapshot_age > CURRENT_SECONDS


class LatestReports:
    """The newest report of each worker of this gateway's edge, in the worker that reads the reports."""

    def __init__(self) -> None:
        self.of_workers: dict[int, tuple[float, float | None, int]] = {}
        self.written: EdgeState | None = None

    def note(self, report: Mapping[str, Any]) -> None:
        """Keep when the report was made, the age of the snapshot and the number of requests."""
        requests = sum(sum(row["times"].values()) for row in report.get("rows", ()))
        self.of_workers[int(report["worker"])] = float(report["at"]), report.get("age"), requests

    def state(self) -> EdgeState | None:
        """Return the state by the workers that have reported in the ten seconds before the newest report."""
        newest = max((at for at, *_ in self.of_workers.values()), default=0.0)
        self.of_workers = {
            pid: report for pid, report in self.of_workers.items() if newest - report[0] <= CURRENT_SECONDS
        }
        if not self.of_workers:
            return None
        ages = [age for _, age, _ in self.of_workers.values() if age is not None]
        return EdgeState(
            gateway_name(), newest, max(ages, default=None),
            sum(requests for *_, requests in self.of_workers.values()),
        )  # fmt: skip

    def write(self) -> None:
        """Write the state if there is a newer one; raise RedisUnavailable."""
        state = self.state()
        if state is not None and state != self.written:
            text = json.dumps(asdict(state))
            key = keys.edge_state(gateway_name())
            redis_call(key, lambda redis: redis.set(key, text, ex=KEPT_SECONDS))
            self.written = state


latest_reports = LatestReports()


def read_edges(gateways: Iterable[str]) -> list[EdgeState]:
    """Return the state of each edge that has reported in the last ten minutes to one of these gateways.

    Raises RedisUnavailable.
    """
    names = [keys.edge_state(gateway) for gateway in gateways]
    if not names or not settings.ENV.EDGE_SECRET:
        return []
    texts = [redis_call(name, lambda redis, name=name: redis.get(name)) for name in names]  # type: ignore[misc]
    states = [EdgeState(**json.loads(text)) for text in texts if text]
    return [state for state in states if time.time() - state.at <= KEPT_SECONDS]
