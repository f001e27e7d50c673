"""What the gateways counted for each instance in the last hour, in the words of the clusters page."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from django.db import Error as DatabaseProblem

from lucid_gateway.figures.instances import InstanceSeries, read_instances
from lucid_gateway.operators.numbers import EMPTY, duration, rate

POINT_SECONDS = 60


@dataclass(frozen=True)
class LastHour:
    """One instance. The plots have a point a minute; the last minute has lasted `elapsed` seconds so far."""

    series: InstanceSeries
    elapsed: float

    @property
    def attempts(self) -> int:
        return sum(self.series.attempts)

    @property
    def failed(self) -> int:
        return sum(self.series.failed)

    @property
    def per_second(self) -> str:
        """The requests per second of the current minute and the one before."""
        return f"{rate(sum(self.series.attempts[-2:]) / (POINT_SECONDS + self.elapsed))}/s"

    @property
    def error_share(self) -> str:
        if not self.attempts:
            return EMPTY
        share = self.failed / self.attempts
        return "< 0.1 %" if 0 < share < 0.001 else f"{100 * share:.3g} %"

    @property
    def error_shares(self) -> list[float | None]:
        """The share of failed attempts in each minute, None for a minute without any attempt."""
        counts = zip(self.series.failed, self.series.attempts, strict=True)
        return [failed / attempts if attempts else None for failed, attempts in counts]

    @property
    def first_byte(self) -> str:
        """The median and the 95th percentile of the time to the first byte."""
        if self.series.p50_hour_ms is None or self.series.p95_hour_ms is None:
            return EMPTY
        p50, p95 = duration(self.series.p50_hour_ms), duration(self.series.p95_hour_ms)
        return f"{p50.removesuffix(' ms') if p95.endswith(' ms') else p50} / {p95}"


def last_hour() -> Mapping[tuple[str, str], LastHour] | None:
    """Return the last hour of each instance by (cluster, address), or None if the database is unavailable."""
    now = time.time()
    try:
        found = read_instances(now)
    except DatabaseProblem:
        return None
    return {name: LastHour(series, now % POINT_SECONDS) for name, series in found.items()}
