"""The plots of the overview: their lines as numbers for the script, and as SVG without one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lucid_gateway.figures.reading import LOGIN_FAILURES, LOGINS, Counted, Figures
from lucid_gateway.operators.links import events_page, requests_page, time_of

Points = Sequence[Counted | None]
WIDTH, HEIGHT = 600, 150
MOST_REASONS = 3
REASON_TONES = ("p50", "p95", "p99")


@dataclass(frozen=True)
class Line:
    """A line; `tone` names its colour, a custom property of the stylesheet. None is a gap."""

    name: str
    tone: str
    values: tuple[float | None, ...]
    url: str = ""


@dataclass(frozen=True)
class Plot:
    """Lines over time. `times` are in seconds since the epoch, `unit` stands behind each value, and `empty` is said in
    place of lines without a value.
    """

    name: str
    title: str
    unit: str
    times: tuple[int, ...]
    lines: tuple[Line, ...]
    empty: str
    is_filled: bool = False
    url: str = ""

    @property
    def top(self) -> float:
        """The largest value."""
        return max((value for line in self.lines for value in line.values if value is not None), default=0.0)

    def data(self) -> dict[str, Any]:
        """Return the plot as the script reads it."""
        lines = [{"name": line.name, "tone": line.tone, "values": line.values, "url": line.url} for line in self.lines]
        return {
            "name": self.name,
            "unit": self.unit,
            "times": self.times,
            "filled": self.is_filled,
            "url": self.url,
            "lines": lines,
        }

    @property
    def began(self) -> datetime | None:
        return datetime.fromtimestamp(self.times[0], UTC) if self.times else None

    def polylines(self) -> list[tuple[str, list[str]]]:
        """Return (tone, the points of each piece) of each line, for a picture of WIDTH × HEIGHT."""
        return [(line.tone, pieces(line.values, self.top or 1)) for line in self.lines]


def pieces(values: Sequence[float | None], top: float) -> list[str]:
    """Return the points of the pieces between gaps."""
    step = WIDTH / max(1, len(values) - 1)
    found: list[list[str]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            found.append([])
        else:
            found[-1].append(f"{number * step:.1f},{HEIGHT - (HEIGHT - 4) * value / top:.1f}")
    # A single point is a line to itself, which is drawn as a dot.
    return [" ".join(points if len(points) > 1 else 2 * points) for points in found if points]


def plots_of(figures: Figures) -> list[Plot]:
    since = time_of(figures.total.start)
    # A point without any count was not written by any gateway, not even by an idle one: it is a gap.
    points = [point if point.groups else None for point in figures.points]
    times = tuple(point.start for point in figures.points)
    everything, refusals = requests_page(since=since), requests_page(outcome="refused", since=since)
    attempts = events_page(*LOGINS, *LOGIN_FAILURES, since=since)
    return [
        Plot("answers", "Answers", "/s", times, answers(points, since), "No requests.", True, everything),
        Plot("latency", "Latency", "ms", times, latency(points), "No requests.", url=everything),
        Plot("refused", "Refused", "/min", times, refused(points, since), "No request was refused.", True, refusals),
        Plot("logins", "Logins", "/min", times, logins(points, since), "Nobody has tried to sign in.", url=attempts),
    ]


def answers(points: Points, since: str) -> tuple[Line, ...]:
    return tuple(
        Line(name, f"s{name}", rates(points, "statuses", (name,), 1), requests_page(status=name, since=since))
        for name in ("2xx", "3xx", "4xx", "5xx")
    )


def latency(points: Points) -> tuple[Line, ...]:
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    return tuple(
        Line(name, name, tuple(None if point is None else rounded(point.percentile_ms(share)) for point in points))
        for name, share in shares.items()
    )


def refused(points: Points, since: str) -> tuple[Line, ...]:
    """Return a line for each of the most frequent reasons."""
    total: Counter[str] = Counter()
    for point in points:
        total.update(point.groups.get("refused", {}) if point else {})
    reasons = [reason for reason, count in total.most_common(MOST_REASONS) if count]
    return tuple(
        Line(
            reason.replace("_", " "), tone, rates(points, "refused", (reason,), 60),
            requests_page(reason=reason, since=since),
        )
        for reason, tone in zip(reasons, REASON_TONES, strict=False)
    )  # fmt: skip


def logins(points: Points, since: str) -> tuple[Line, ...]:
    return (
        Line("succeeded", "s2xx", rates(points, "events", LOGINS, 60), events_page(*LOGINS, since=since)),
        Line("failed", "s5xx", rates(points, "events", LOGIN_FAILURES, 60), events_page(*LOGIN_FAILURES, since=since)),
    )


def rates(points: Points, group: str, names: Sequence[str], per_seconds: int) -> tuple[float | None, ...]:
    """Return the sums of these counts per so many seconds."""
    return tuple(
        None
        if point is None
        else rounded(sum(point.groups.get(group, {}).get(name, 0) for name in names) * per_seconds / point.seconds)
        for point in points
    )


def rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")
