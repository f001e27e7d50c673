"""Pages of lists with millions of rows: how many rows are counted, and which index the database uses."""

from typing import Any

from django.conf import settings
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Page, Paginator
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from lucid_gateway.operators.best_index import (
    along_order,
    best_conditions,
    by_conditions,
    order_of,
    share_of_first,
    sorted_by_index,
    sorted_one_way,
)

COUNTED = 10_000
FEW = 5_000  # so many rows are sorted quickly
COMPARED = 100_000  # rows of a condition on SQLite, of which MongoDB finds the rarest by itself
MOST_READ = 50_000  # rows along the index of an order
Rows = QuerySet[Any]


class LongListPaginator(Paginator):  # type: ignore[type-arg]  # not subscriptable at run time
    """Counts at most COUNTED rows of a filtered list. For the size of a whole collection, it uses MongoDB's own number:
    counting a million rows would take a second.
    """

    object_list: Rows

    def __init__(self, rows: Rows, *args: Any, **kwargs: Any) -> None:
        rows = sorted_one_way(rows)
        self.all_rows, self.order = rows, next(iter(order_of(rows)), "")
        self.best = best_conditions(rows, self.order, most=COUNTED if settings.ON_MONGODB else COMPARED)
        super().__init__(by_conditions(rows, self.best, self.order), *args, **kwargs)

    @cached_property
    def count(self) -> int:
        """The number of rows; for some time after a crash of MongoDB, that of a whole list may be slightly wrong."""
        if self.object_list.query.where:
            return min(self.counted, COUNTED)
        if settings.ON_MONGODB:
            collection = connection.get_collection(self.object_list.model._meta.db_table)  # type: ignore[attr-defined]
            return int(collection.estimated_document_count())
        return super().count

    @cached_property
    def counted(self) -> int:
        """The number of rows of a filtered list, at most one more than COUNTED."""
        return self.object_list.order_by()[: COUNTED + 1].count()

    @property
    def has_more(self) -> bool:
        """Whether the list has more rows than its pages show."""
        return bool(self.object_list.query.where) and self.counted > COUNTED

    def page(self, number: int | str) -> Page[Any]:
        """Return a page that is read in the way that examines the fewest rows."""
        number = self.validate_number(number)
        first = (number - 1) * self.per_page
        last = min(first + self.per_page, self.count)
        if not self.object_list.query.where:
            return Page(slice_of(self.object_list, first, last, self.count), number, self)
        if not self.best or not self.order or sorted_by_index(self.best, self.order) or self.counted <= FEW:
            return super().page(number)
        return Page(self.many_unsorted(first, last), number, self)

    def many_unsorted(self, first: int, last: int) -> Any:
        """Return rows that no index sorts: a dense list is read along the index of its order, until there are enough
        rows. Otherwise, the keys of all rows are sorted.
        """
        if last <= share_of_first(self.all_rows, self.order) * MOST_READ:
            return along_order(self.all_rows)[first:last]
        if settings.ON_MONGODB:  # it sorts keys by itself
            return self.object_list[first:last]
        keys = list(self.object_list.values_list("pk", flat=True)[first:last])
        return along_order(self.all_rows).filter(pk__in=keys)


class LongList(ChangeList):
    """A list whose only page is read as the paginator says, too."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.multi_page:
            self.result_list = self.paginator.object_list


def slice_of(rows: Rows, first: int, last: int, count: int) -> Any:
    """Return rows of a whole list. The last ones are read from the end: the database steps over all rows before."""
    if not rows.query.order_by or first < count // 2:
        return rows[first:last]
    return list(rows.reverse()[count - last : count - first])[::-1]
