"""The reports of all workers of all gateways on the clusters' instances, for operators."""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from redis import Redis

from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.kernel.redis.access import redis_call
from lucid_gateway.policy.keys import WORKER_REPORTS
from proxy.choosing.bulkhead import bulkhead_of
from proxy.choosing.instances import InstanceState

CURRENT_SECONDS = 5.0
KEPT_SECONDS = 60


@dataclass(frozen=True)
class InstanceReport:
    """One worker's view of one instance. `breaker` is closed, open or half-open; `health` is healthy, unhealthy or
    unknown; counts start with the worker.

    Times are in epoch seconds: `open_until` is 0 while the breaker is closed, and `down_since` None while the instance
    is up. `last_error` is in words. `places` is the worker's limit for requests in progress to the cluster.
    """

    gateway: str
    worker: int
    cluster: str
    instance: str
    in_flight: int
    breaker: str
    open_until: float
    health: str
    requests: int
    failures: int
    down_since: float | None = None
    last_error: str = ""
    last_error_at: float | None = None
    places: int = 0


# A worker of another release may write fields that this one does not know.
KNOWN_FIELDS = frozenset(field.name for field in fields(InstanceReport))


def report_of(state: InstanceState) -> InstanceReport:
    open_until = state.breaker.open_until
    return InstanceReport(
        gateway=gateway_name(),
        worker=os.getpid(),
        cluster=state.cluster,
        instance=state.instance.url,
        in_flight=state.in_flight,
        breaker=state.breaker.state,
        open_until=time.time() + open_until - state.clock() if open_until else 0.0,
        health={None: "unknown", True: "healthy", False: "unhealthy"}[state.healthy],
        requests=state.requests,
        failures=state.failures,
        down_since=state.down_since,
        last_error=state.last_error,
        last_error_at=state.last_error_at,
        places=bulkhead_of(state.cluster).places,
    )


def write_report(states: Iterable[InstanceState]) -> None:
    """Store this worker's report; raise RedisUnavailable."""
    report = {"at": time.time(), "instances": [asdict(report_of(state)) for state in states]}

    def send(redis: Redis) -> None:
        pipeline = redis.pipeline(transaction=False)
        pipeline.hset(WORKER_REPORTS, f"{gateway_name()}|{os.getpid()}", json.dumps(report))
        pipeline.expire(WORKER_REPORTS, KEPT_SECONDS)
        pipeline.execute()

    redis_call(WORKER_REPORTS, send)


def read_reports() -> list[InstanceReport]:
    """Return the reports of the last five seconds, and delete expired ones; raise RedisUnavailable."""
    found = []
    for field, text in redis_call(WORKER_REPORTS, lambda redis: redis.hgetall(WORKER_REPORTS)).items():
        report = json.loads(text)
        age = time.time() - report["at"]
        if age <= CURRENT_SECONDS:
            found += [
                InstanceReport(**{name: value for name, value in instance.items() if name in KNOWN_FIELDS})
                for instance in report["instances"]
            ]
        elif age > KEPT_SECONDS:
            delete_report(field)
    return found


def delete_report(field: bytes | str) -> None:
    redis_call(WORKER_REPORTS, lambda redis: redis.hdel(WORKER_REPORTS, field))


def reporting_gateways() -> set[str]:
    """Return the names of the gateways that have reported in the last five seconds; raise RedisUnavailable."""
    found: Any = redis_call(WORKER_REPORTS, lambda redis: redis.hgetall(WORKER_REPORTS))
    return {
        field.decode().rpartition("|")[0]
        for field, text in found.items()
        if time.time() - json.loads(text)["at"] <= CURRENT_SECONDS
    }
