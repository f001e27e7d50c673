"""Lists: `page`, `limit` and `sort` of the query, and the shape of the answer (the contract, section 4)."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.fields import empty

MAX_LIMIT = 100
LAST_PAGE = 1_000_000
ONE_ROW = {"page": 1, "limit": 20, "total": 1, "pages": 1}  # in examples


class EmptyIsWrong:
    """A field that refuses an empty value in a query, where DRF would take it for left out."""

    field_name: str | None

    def get_value(self, dictionary: Mapping[Any, Any]) -> Any:
        """Return the value as it was sent."""
        return dictionary.get(self.field_name, empty)


class SortField(EmptyIsWrong, serializers.ChoiceField):
    """What a list is sorted by."""


class ListQuery(serializers.Serializer[None]):
    """The query of a list. Subclasses add filters as fields, and name in `sortable` what may be sorted by."""

    sortable: ClassVar[tuple[str, ...]] = ()
    default_sort: ClassVar[str] = ""

    page = serializers.IntegerField(min_value=1, max_value=LAST_PAGE, default=1, help_text="From 1")
    limit = serializers.IntegerField(min_value=1, max_value=MAX_LIMIT, default=20, help_text="Rows of a page")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Add the field `sort`."""
        choices = [sign + name for name in self.sortable for sign in ("", "-")]
        sort = SortField(choices, default=self.default_sort, help_text="A minus sign sorts downwards")
        return super().get_fields() | {"sort": sort}


class PaginationSerializer(serializers.Serializer[None]):
    """Which part of the list an answer holds."""

    page = serializers.IntegerField()
    limit = serializers.IntegerField()
    total = serializers.IntegerField(help_text="Rows in all")
    pages = serializers.IntegerField(help_text="Pages in all")


def page_of(
    rows: QuerySet[Any], query: dict[str, Any], *, name: str, show: Callable[[QuerySet[Any]], Any]
) -> dict[str, Any]:
    """Return a page of the rows as `show` makes them, under `name`, with `pagination`; ties are broken by the key, in
    the same direction: so an index has the whole order, forwards and backwards.
    """
    page, limit = query["page"], query["limit"]
    total = rows.count()
    key = "-pk" if query["sort"].startswith("-") else "pk"
    found = rows.order_by(query["sort"], key)[(page - 1) * limit : page * limit]
    pagination = {"page": page, "limit": limit, "total": total, "pages": -(-total // limit)}
    return {name: show(found), "pagination": pagination}
