"""Pages of the newest of many events: which index SQLite uses for them. MongoDB finds the better one by itself."""

from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.paginator import Page
from django.db.models import Func, Lookup, QuerySet
from django.db.models.expressions import Col

from lucid_gateway.operators.long_lists import LongListPaginator

Conditions = Mapping[str, tuple[str, ...]]
# Conditions that can match many events, which their index does not return in the order of their time.
UNSORTED: Conditions = {"address_key": ("gte", "lte"), "type": ("in",)}
# Conditions that leave fewer events than an outcome does.
NARROW: Conditions = {
    "address_key": ("gte", "lte", "exact"), "type": ("in", "exact"), "actor": ("exact",), "subject": ("exact",),
    "request_id": ("exact",),
}  # fmt: skip
OUTCOME: Conditions = {"outcome": ("exact",)}
SORTED_QUICKLY = 5_000
SAMPLE = 5_000
DENSE = 50  # matches in the sample


class NewestFirstPaginator(LongListPaginator):
    """Reads dense lists, such as those of a wide network, along the index of the time, without a sort."""

    def __init__(self, rows: Any, *args: Any, **kwargs: Any) -> None:
        self.all_rows = rows
        has_narrow = not settings.ON_MONGODB and any(conditions_of(rows, NARROW))
        super().__init__(without_indexes(rows, OUTCOME) if has_narrow else rows, *args, **kwargs)

    def page(self, number: int | str) -> Page[Any]:
        if not settings.ON_MONGODB and any(conditions_of(self.all_rows, UNSORTED)) and self.count > SORTED_QUICKLY:
            by_time = without_indexes(self.all_rows, UNSORTED)
            if is_dense(by_time):
                self.object_list = by_time
        return super().page(number)


class Unindexed(Func):
    """A column whose index SQLite does not use (https://www.sqlite.org/optoverview.html, section 2)."""

    template = "+%(expressions)s"
    arity = 1


def conditions_of(rows: QuerySet[Any], wanted: Conditions) -> Iterator[tuple[int, Any]]:
    """Yield the wanted ones of the conditions that all rows meet, with their places."""
    children: list[Any] = rows.query.where.children
    for place, each in enumerate(children):
        is_plain = isinstance(each, Lookup) and isinstance(each.lhs, Col)
        if is_plain and each.lookup_name in wanted.get(each.lhs.target.name, ()):
            yield place, each


def without_indexes(rows: QuerySet[Any], unwanted: Conditions) -> QuerySet[Any]:
    """Return the same rows, found without the indexes for these conditions."""
    changed = rows.all()
    children: list[Any] = changed.query.where.children
    for place, condition in list(conditions_of(changed, unwanted)):
        copied = children[place] = condition.copy()
        copied.lhs = Unindexed(condition.lhs, output_field=condition.lhs.output_field)
    return changed


def is_dense(rows: QuerySet[Any]) -> bool:
    """Return whether many of the newest events are among the rows."""
    border = rows.model._default_manager.order_by("-created_at").values_list("created_at", flat=True)[SAMPLE:].first()
    newest = rows.filter(created_at__gte=border) if border else rows
    return newest.order_by()[:DENSE].count() >= DENSE
