"""Pagination of lists with millions of rows."""

from django.conf import settings
from django.core.paginator import Paginator
from django.db import connection
from django.utils.functional import cached_property


class LongListPaginator(Paginator):  # type: ignore[type-arg]  # not subscriptable at run time
    """Uses MongoDB's own number for the size of a whole collection: counting a million rows would take a second."""

    @cached_property
    def count(self) -> int:
        """The number of rows; for some time after a crash of MongoDB, it may be slightly wrong."""
        query = self.object_list.query  # type: ignore[attr-defined]  # the admin has querysets
        if settings.ON_MONGODB and not query.where:
            collection = connection.get_collection(query.model._meta.db_table)  # type: ignore[attr-defined]
            return int(collection.estimated_document_count())
        return super().count
