"""Finds kept requests, newest first, in a constant number of queries that each read at most EXAMINED rows or keys."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from lucid_gateway.explorer.conditions import Between, Condition, Equal
from lucid_gateway.explorer.models import KeptRequest, key_at, moment_of

EXAMINED = 10_000
# Of several conditions, the first of these selects rows by its index; the others are checked row by row.
SELECTIVE_FIRST = (
    "request_id", "credential_id", "user_id", "address_key", "instance", "network", "reason", "route", "error_code",
    "cluster", "status", "status_class", "method",
)  # fmt: skip
Rows = QuerySet[KeptRequest]


@dataclass(frozen=True)
class Search:
    """Conditions that all must hold, a time from `since` until before `until`, and the page: the rows after `before`,
    a key, or at `offset`. `examined` is how many rows a page reads at
    most, by default EXAMINED.
    """

    conditions: tuple[Condition, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    before: uuid.UUID | None = None
    offset: int = 0
    limit: int = 50
    examined: int | None = None

    def period(self) -> dict[str, uuid.UUID]:
        """Return the lookups of keys for the period and the page."""
        ends = [key for key in (self.before, self.until and key_at(self.until)) if key]
        lookups = {"pk__lt": min(ends)} if ends else {}
        return lookups | ({"pk__gte": key_at(self.since)} if self.since else {})


@dataclass(frozen=True)
class Found:
    """A page of rows. `total` counts the matches up to EXAMINED; there are more if `is_partial`. `next_before` is the
    key after which the next page begins, None at the end. `searched_back_to` is set if only the newest rows until then
    were examined.
    """

    rows: list[KeptRequest]
    total: int
    is_partial: bool
    next_before: uuid.UUID | None
    searched_back_to: datetime | None = None


def find(search: Search) -> Found:
    """Return a page of the search; raise django.db.Error."""
    driver, rest = split(search.conditions)
    if not rest and not isinstance(driver, Between):
        return find_by_index(search, driver)
    ranges = [condition for condition in search.conditions if isinstance(condition, Between)]
    if ranges:
        found = keys_in_range(search, ranges[0])
        if found is not None:
            return page_of_keys(search, found, examined_all=True)
    equal = driver if isinstance(driver, Equal) else None
    return page_of_keys(search, *newest_matching(search, equal))


def split(conditions: Sequence[Condition]) -> tuple[Condition | None, list[Condition]]:
    """Return the condition that selects rows by its index, and the others."""
    by_index = [condition for condition in conditions if isinstance(condition, Equal)]
    by_index.sort(key=lambda condition: SELECTIVE_FIRST.index(condition.field))
    usable: list[Condition] = [*by_index, *(each for each in conditions if isinstance(each, Between))]
    driver = usable[0] if usable else None
    return driver, [condition for condition in conditions if condition is not driver]


def find_by_index(search: Search, driver: Condition | None) -> Found:
    """Return the page of a search whose one condition has an index: two queries."""
    rows = KeptRequest.objects.filter(**(driver.lookups() if isinstance(driver, Equal) else {}))
    page = list(rows.filter(**search.period()).order_by("-pk")[search.offset : search.offset + search.limit + 1])
    of_all_pages = Search(since=search.since, until=search.until)
    total = rows.filter(**of_all_pages.period()).order_by("-pk")[: EXAMINED + 1].count()
    return Found(
        page[: search.limit], min(total, EXAMINED), total > EXAMINED,
        page[search.limit - 1].pk if len(page) > search.limit else None,
    )  # fmt: skip


def keys_in_range(search: Search, driver: Between) -> list[uuid.UUID] | None:
    """Return the keys of all matches if at most EXAMINED rows are in the range, otherwise None."""
    rows = KeptRequest.objects.filter(**driver.lookups()).order_by(driver.field)
    rest = [condition for condition in search.conditions if condition is not driver]
    if rows.values_list("pk", flat=True)[EXAMINED : EXAMINED + 1]:  # one more row, which costs only steps in the index
        return None
    candidates = list(values(rows, rest)[:EXAMINED])
    low, high = (search.since and key_at(search.since)), (search.until and key_at(search.until))
    keys = [key for key in matching(candidates, rest) if (not low or key >= low) and (not high or key < high)]
    return sorted(keys, reverse=True)


def newest_matching(search: Search, driver: Equal | None) -> tuple[list[uuid.UUID], bool, uuid.UUID | None]:
    """Return the keys of the matches among the newest rows of the page's period, whether these were all rows, and the
    key of the oldest of them.
    """
    rows = KeptRequest.objects.filter(**(driver.lookups() if driver else {}), **search.period()).order_by("-pk")
    rest = [condition for condition in search.conditions if condition is not driver]
    examined = search.examined or EXAMINED
    candidates = list(values(rows, rest)[:examined])
    last = candidates[-1][0] if candidates else None
    return matching(candidates, rest), len(candidates) < examined, last


def values(rows: Rows, conditions: Sequence[Condition]) -> Any:
    """Return a query of tuples: the key, and the field of each condition."""
    return rows.values_list("pk", *(condition.field for condition in conditions))


def matching(candidates: Sequence[tuple[Any, ...]], conditions: Sequence[Condition]) -> list[uuid.UUID]:
    """Return the keys of the tuples that meet all conditions."""
    return [
        key
        for key, *fields in candidates
        if all(condition.accepts(value) for condition, value in zip(conditions, fields, strict=True))
    ]


def page_of_keys(
    search: Search, keys: list[uuid.UUID], examined_all: bool, last_examined: uuid.UUID | None = None
) -> Found:
    """Return the page of matches whose keys are known, newest first: one query."""
    left = [key for key in keys if search.before is None or key < search.before][search.offset :]
    chosen = left[: search.limit]
    rows = list(KeptRequest.objects.filter(pk__in=chosen).order_by("-pk")) if chosen else []
    following = chosen[-1] if len(left) > search.limit else None
    back_to = None
    if following is None and not examined_all and last_examined is not None:
        following, back_to = last_examined, moment_of(last_examined)
    return Found(rows, len(keys), not examined_all, following, back_to)
