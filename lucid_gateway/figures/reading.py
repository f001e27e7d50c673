"""Reads the figures of all gateways: what they counted in a period, step by step and in all.

A process remembers rows that can no longer change, so that a page that refreshes itself reads only the newest ones.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

from django.db.models import Q

from lucid_gateway.figures.gateways import GatewayState, read_gateways
from lucid_gateway.figures.ledger import OFFENDERS, OPEN_SECONDS, UNWRITTEN_SECONDS, largest
from lucid_gateway.figures.models import Sample, unpacked
from lucid_gateway.kernel.histogram import percentile
from lucid_gateway.server.samples import Groups

Key = tuple[int, int]  # a row's seconds and start
COARSE = (3600, 600, 60)
MAX_OFFENDERS = 300
FINAL_SECONDS = OPEN_SECONDS + UNWRITTEN_SECONDS
SETTLED_SECONDS, SETTLED_FOR = 70, 20.0  # a row rarely changes after its first minute
MAX_KNOWN = 2_000
LATELY_SECONDS = 600
LOGINS = ("login.succeeded", "admin.login")
LOGIN_FAILURES = ("login.failed", "login.blocked")


@dataclass(frozen=True)
class Period:
    """A period up to now, in seconds, and the seconds of a point of its plots."""

    name: str
    words: str
    before: str
    seconds: int
    step: int

    def since(self, now: float) -> int:
        """Return the start of the first step; the last one has just begun."""
        return int(now) // self.step * self.step + self.step - self.seconds


HOUR = Period("1h", "last hour", "the hour before", 3600, 60)
DAY = Period("24h", "last day", "the day before", 24 * 3600, 600)
PERIODS = {period.name: period for period in (HOUR, DAY)}


@dataclass(frozen=True)
class Counted:
    """What all gateways counted in `seconds` from `start`."""

    start: int
    seconds: float
    groups: Mapping[str, Mapping[str, int]]

    def all(self, group: str) -> int:
        """Return the sum of a group."""
        return sum(self.groups.get(group, {}).values())

    @cached_property
    def requests(self) -> int:
        return self.all("statuses")

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds if self.seconds > 0 else 0.0

    @property
    def refused_share(self) -> float:
        """The share of requests that the gateway refused, from 0 to 1."""
        return self.all("refused") / self.requests if self.requests else 0.0

    @property
    def error_share(self) -> float:
        """The share of requests that were answered with a status of 5xx, from 0 to 1."""
        return self.status("5xx") / self.requests if self.requests else 0.0

    @property
    def logins(self) -> int:
        return sum(self.groups.get("events", {}).get(kind, 0) for kind in LOGINS)

    @property
    def login_failures(self) -> int:
        return sum(self.groups.get("events", {}).get(kind, 0) for kind in LOGIN_FAILURES)

    def status(self, name: str) -> int:
        return self.groups.get("statuses", {}).get(name, 0)

    def percentile_ms(self, share: float) -> float | None:
        """Return the percentile of the durations in milliseconds, None without requests."""
        return percentile_ms(self.groups.get("seconds", {}), share)


@dataclass(frozen=True)
class Figures:
    """A period: its points, all of it, and the period before. The points before `begins` have no figures. `up_to` is
    the end of the newest sample, if there is one in the last ten minutes.
    """

    period: Period
    points: tuple[Counted, ...]
    total: Counted
    before: Counted
    begins: int
    gateways: tuple[GatewayState, ...]
    up_to: int | None


class History:
    """Rows of all gateways, added up, as this process remembers them."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, Key], tuple[float, Groups]] = {}

    def read(self, column: str, keys: Iterable[Key], now: float) -> dict[Key, Groups]:
        """Return the counts of one column for each key; raise django.db.Error."""
        found: dict[Key, Groups] = {}
        missing: list[Key] = []
        for key in keys:
            until, groups = self.known.get((column, key), (0.0, {}))
            if until > now:
                found[key] = groups
            else:
                missing.append(key)
        for key, groups in merged(column, missing).items():
            found[key] = groups
            self.remember(column, key, groups, now)
        return found

    def remember(self, column: str, key: Key, groups: Groups, now: float) -> None:
        """Keep the counts for as long as they cannot change, or rarely do."""
        age = now - sum(key)
        if age > SETTLED_SECONDS:
            self.known[column, key] = (float("inf") if age > FINAL_SECONDS else now + SETTLED_FOR), groups
        while len(self.known) > MAX_KNOWN:
            del self.known[next(iter(self.known))]

    def add_up(self, column: str, keys: Iterable[Key], now: float) -> Groups:
        return total_of(self.read(column, keys, now).values())


history = History()


def merged(column: str, keys: list[Key]) -> dict[Key, Groups]:
    """Return the sum over all gateways for each key, with one query."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for seconds, start in keys:
        by_length[seconds].append(start)
    if not keys:
        return {}
    wanted = reduce(or_, (Q(seconds=seconds, start__in=starts) for seconds, starts in by_length.items()))
    parts: dict[Key, list[Groups]] = {key: [] for key in keys}
    for number, (seconds, start, data) in enumerate(
        list(Sample.objects.filter(wanted).values_list("seconds", "start", column))
    ):
        parts[seconds, start].append(unpacked(data))
        if number % 50 == 49:
            time.sleep(0)  # a worker serves other requests meanwhile
    return {key: total_of(groups) for key, groups in parts.items()}


def total_of(parts: Iterable[Mapping[str, Mapping[str, int]]]) -> Groups:
    total: dict[str, Counter[str]] = defaultdict(Counter)
    for groups in parts:
        for group, counts in groups.items():
            into = total[group]
            for name, count in counts.items():
                into[name] += count
    return {
        group: largest(counts, MAX_OFFENDERS) if group.startswith(OFFENDERS) else dict(counts)
        for group, counts in total.items()
    }


def cover(since: int, until: float) -> Iterator[Key]:
    """Yield the longest rows that together have everything from `since` to `until`. The last one may be longer: it has
    what was counted up to now.
    """
    while since < until:
        seconds = next(
            length for length in COARSE if since % length == 0 and (since + length <= until or until == float("inf"))
        )
        yield seconds, since
        since += seconds


def cover_until_now(since: int, now: float) -> Iterator[Key]:
    """Yield the longest rows that together have everything since then."""
    for seconds, start in cover(since, float("inf")):
        if start > now:
            return
        yield seconds, start


def read_figures(period: Period, now: float | None = None) -> Figures:
    """Return the figures of a period up to now; raise django.db.Error."""
    now = time.time() if now is None else now
    since, gateways = period.since(now), read_gateways(now)
    up_to = max((gateway.up_to for gateway in gateways), default=None)
    steps = [(period.step, start) for start in range(since, int(now) + 1, period.step)]
    rows = history.read("requests", steps, now)
    end = min(up_to, now) if up_to else now
    points = tuple(
        Counted(start, min(start + seconds, end) - start, rows[seconds, start])
        for seconds, start in steps
        if start < end
    )
    begins = next((point.start for point in points if point.groups), since)
    groups = total_of(rows.values()) | history.add_up("tables", cover_until_now(since, now), now)
    return Figures(
        period=period,
        points=points,
        total=Counted(since, end - begins, groups),
        before=counted_between(since - period.seconds, since, now),
        begins=begins,
        gateways=gateways,
        up_to=up_to,
    )


def counted_between(since: int, until: int, now: float) -> Counted:
    """Return what was counted in a period that is over; its seconds begin with the first row that has figures."""
    keys = list(cover(since, until))
    rows = history.read("requests", keys, now)
    begins = next((key[1] for key in keys if rows[key]), since)
    return Counted(since, until - begins, total_of(rows.values()))


def percentile_ms(histogram: Mapping[str, int], share: float) -> float | None:
    """Return the percentile of a histogram in milliseconds, or None for an empty one."""
    seconds = percentile(histogram, share)
    return None if seconds is None else seconds * 1000


def read_lately(now: float | None = None) -> Counted:
    """Return what was counted in the last ten minutes; raise django.db.Error."""
    now = time.time() if now is None else now
    since = int(now) // HOUR.step * HOUR.step - LATELY_SECONDS
    return Counted(since, now - since, history.add_up("requests", cover_until_now(since, now), now))
