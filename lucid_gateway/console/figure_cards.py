"""The four numbers at the top of the overview, and how they differ from the period before."""

from dataclasses import dataclass

from lucid_gateway.figures.reading import Counted, Figures
from lucid_gateway.operators.links import requests_page, time_of
from lucid_gateway.operators.numbers import duration, rate

BETTER, WORSE, NEUTRAL = "better", "worse", ""


@dataclass(frozen=True)
class Card:
    """A number as text; `delta` says how it has changed, and `tone` whether that is better, worse or neither."""

    name: str
    value: str
    delta: str
    tone: str
    url: str


def cards_of(figures: Figures) -> list[Card]:
    total, before, since, compared = figures.total, figures.before, time_of(figures.total.start), figures.period.before
    latency = slower_or_faster(total.percentile_ms(0.95), before.percentile_ms(0.95), compared)
    refused, errors = (
        points(getattr(total, share), before, getattr(before, share), compared)
        for share in ("refused_share", "error_share")
    )
    everything = requests_page(since=since)
    return [
        Card("Requests per second", rate(total.per_second), *more_or_less(total, before, compared), everything),
        Card("p95 latency", duration(total.percentile_ms(0.95)), *latency, everything),
        Card("Refused", percent(total.refused_share), *refused, requests_page(outcome="refused", since=since)),
        Card("Errors (5xx)", percent(total.error_share), *errors, requests_page(status="5xx", since=since)),
    ]


def percent(share: float) -> str:
    """Return a share with one digit, and never 0.0 % for more than nothing."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def more_or_less(total: Counted, before: Counted, compared: str) -> tuple[str, str]:
    if not before.requests:
        return f"no figures for {compared}", NEUTRAL
    change = total.per_second / before.per_second - 1
    if abs(change) < 0.005:
        return f"the same as {compared}", NEUTRAL
    if change > 9:
        return f"▲ {change + 1:,.0f} times {compared}", NEUTRAL
    return f"{'▲' if change > 0 else '▼'} {abs(change) * 100:.0f} % on {compared}", NEUTRAL


def slower_or_faster(now: float | None, before: float | None, compared: str) -> tuple[str, str]:
    """Return the change in words; less than a tenth is within the error of a histogram."""
    if now is None or before is None:
        return f"no figures for {compared}", NEUTRAL
    if abs(now - before) < 0.1 * before:
        return f"the same as {compared}", NEUTRAL
    slower = now > before
    return f"{'▲' if slower else '▼'} {duration(abs(now - before))} on {compared}", WORSE if slower else BETTER


def points(now: float, period_before: Counted, before: float, compared: str) -> tuple[str, str]:
    """Return the change of a share in percentage points."""
    if not period_before.requests:
        return f"no figures for {compared}", NEUTRAL
    change = 100 * (now - before)
    if abs(change) < 0.05:
        return f"the same as {compared}", NEUTRAL
    return f"{'▲' if change > 0 else '▼'} {abs(change):.1f} points on {compared}", WORSE if change > 0 else BETTER
