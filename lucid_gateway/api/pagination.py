"""Lists: the query parameters `page`, `limit` and `sort`, and the form of the answer (contract, section 4)."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.fields import empty

MAX_LIMIT = 100
LAST_PAGE = 1_000_000
ONE_ROW = {"page": 1, "limit": 20, "total": 1, "pages": 1}  # in examples


class RefusesEmpty:
    """A mixin for fields that refuse an empty value in a query, which DRF would treat as missing."""

    field_name: str | None

    def get_value(self, dictionary: Mapping[Any, Any]) -> Any:
        return dictionary.get(self.field_name, empty)


class SortField(RefusesEmpty, serializers.ChoiceField):
    pass


class ListQuery(serializers.Serializer[None]):
    """The query of a list. Subclasses add filters as fields, and list the sortable fields in `sortable`."""

    sortable: ClassVar[tuple[str, ...]] = ()
    default_sort: ClassVar[str] = ""

    page = serializers.IntegerField(min_value=1, max_value=LAST_PAGE, default=1, help_text="From 1")
    limit = serializers.IntegerField(min_value=1, max_value=MAX_LIMIT, default=20, help_text="Rows per page")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        choices = [sign + name for name in self.sortable for sign in ("", "-")]
        sort = SortField(choices, default=self.default_sort, help_text="A minus sign means descending order")
        return super().get_fields() | {"sort": sort}


class PaginationSerializer(serializers.Serializer[None]):
    """The part of the list that an answer contains."""

    page = serializers.IntegerField()
    limit = serializers.IntegerField()
    total = serializers.IntegerField(help_text="Total number of rows")
    pages = serializers.IntegerField(help_text="Total number of pages")


def page_of(
    rows: QuerySet[Any], query: dict[str, Any], *, name: str, show: Callable[[QuerySet[Any]], Any]
) -> dict[str, Any]:
    """Return a page of the rows, converted by `show`, under `name`, together with `pagination`.

    The primary key breaks ties, in the same direction, so that one index serves both directions.
    """
    page, limit = query["page"], query["limit"]
    total = rows.count()
    key = "-pk" if query["sort"].startswith("-") else "pk"
    found = rows.order_by(query["sort"], key)[(page - 1) * limit : page * limit]
    pagination = {"page": page, "limit": limit, "total": total, "pages": -(-total // limit)}
    return {name: show(found), "pagination": pagination}
