"""The reports of all workers of all gateways on the clusters' instances, for operators."""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from lucid_gateway.kernel.gateway_name import gateway_name
from lucid_gateway.kernel.redis.access import redis_call
from lucid_gateway.policy.keys import WORKER_REPORTS
from proxy.choosing.instances import InstanceState

CURRENT_SECONDS = 5.0
KEPT_SECONDS = 60


@dataclass(frozen=True)
class InstanceReport:
    """One worker's view of one instance. `breaker` is closed, open or half-open; `open_until` is in epoch seconds, 0
    while closed; `health` is healthy, unhealthy or unknown; counts start with the worker.
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
    )


def write_report(pipeline: Any, states: Iterable[InstanceState]) -> None:
    """Add the command that stores this worker's report to the pipeline."""
    report = {"at": time.time(), "instances": [asdict(report_of(state)) for state in states]}
    pipeline.hset(WORKER_REPORTS, f"{gateway_name()}|{os.getpid()}", json.dumps(report))
    pipeline.expire(WORKER_REPORTS, KEPT_SECONDS)


def read_reports() -> list[InstanceReport]:
    """Return the reports of the last five seconds, and delete expired ones; raise RedisUnavailable."""
    found = []
    for field, text in redis_call(lambda redis: redis.hgetall(WORKER_REPORTS)).items():
        report = json.loads(text)
        age = time.time() - report["at"]
        if age <= CURRENT_SECONDS:
            found += [InstanceReport(**instance) for instance in report["instances"]]
        elif age > KEPT_SECONDS:
            delete_report(field)
    return found


def delete_report(field: bytes | str) -> None:
    redis_call(lambda redis: redis.hdel(WORKER_REPORTS, field))
