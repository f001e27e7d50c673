"""Reads the last hour of each instance of the clusters."""

import time
from dataclasses import dataclass

from lucid_gateway.figures import reading
from lucid_gateway.figures.reading import HOUR, percentile_ms, total_of
from lucid_gateway.server.samples import Groups


@dataclass(frozen=True)
class InstanceSeries:
    """The last hour of an instance in points of a minute: attempts, failed ones, and the 95th percentile of the time to
    the first byte in milliseconds. `p50_hour_ms` and `p95_hour_ms` are percentiles of the whole hour.
    """

    attempts: tuple[int, ...]
    failed: tuple[int, ...]
    p95_ms: tuple[float | None, ...]
    p50_hour_ms: float | None = None
    p95_hour_ms: float | None = None


def read_instances(now: float | None = None) -> dict[tuple[str, str], InstanceSeries]:
    """Return the series of each instance by (cluster, address); raise django.db.Error."""
    now = time.time() if now is None else now
    steps = [(HOUR.step, start) for start in range(HOUR.since(now), int(now) + 1, HOUR.step)]
    rows = reading.history.read("instances", steps, now)
    points = [rows[step] for step in steps]
    names = sorted({name for groups in points for name in groups.get("instances", {})})
    return {instance_of(name): series_of(name, points) for name in names}


def instance_of(name: str) -> tuple[str, str]:
    cluster, _, address = name.partition(" ")
    return cluster, address


def series_of(name: str, points: list[Groups]) -> InstanceSeries:
    histograms = [groups.get(f"first_byte {name}", {}) for groups in points]
    hour = total_of({"hour": histogram} for histogram in histograms).get("hour", {})
    return InstanceSeries(
        attempts=tuple(groups.get("instances", {}).get(name, 0) for groups in points),
        failed=tuple(groups.get("instances.failed", {}).get(name, 0) for groups in points),
        p95_ms=tuple(percentile_ms(histogram, 0.95) for histogram in histograms),
        p50_hour_ms=percentile_ms(hour, 0.5),
        p95_hour_ms=percentile_ms(hour, 0.95),
    )
