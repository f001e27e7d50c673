"""Pagination of lists with millions of rows."""

from django.conf import settings
from django.core.paginator import Paginator
from django.db import connection
from django.utils.functional import cached_property

COUNTED = 10_000


class LongListPaginator(Paginator):  # type: ignore[type-arg]  # not subscriptable at run time
    """Counts at most COUNTED rows of a filtered list. For the size of a whole collection, it uses MongoDB's own number:
    counting a million rows would take a second.
    """

    @cached_property
    def count(self) -> int:
        """The number of rows; for some time after a crash of MongoDB, that of a whole list may be slightly wrong."""
        query = self.object_list.query  # type: ignore[attr-defined]  # the admin has querysets
        if query.where:
            return min(self.counted, COUNTED)
        if settings.ON_MONGODB:
            collection = connection.get_collection(query.model._meta.db_table)  # type: ignore[attr-defined]
            return int(collection.estimated_document_count())
        return super().count

    @cached_property
    def counted(self) -> int:
        """The number of rows of a filtered list, at most one more than COUNTED."""
        rows: int = self.object_list.order_by()[: COUNTED + 1].count()  # type: ignore[attr-defined]
        return rows

    @property
    def has_more(self) -> bool:
        """Whether the list has more rows than its pages show."""
        return bool(self.object_list.query.where) and self.counted > COUNTED  # type: ignore[attr-defined]
