"""Searches of the operator pages, which read a limited number of rows: by whole UUIDs, beginnings and parts."""

import re
import uuid
from typing import TYPE_CHECKING, Any

from django.contrib.admin import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

HYPHENATED = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")  # token ids have no hyphens
KEY_ID = re.compile("[a-z0-9]{12}")
JTI = re.compile("[0-9a-f]{32}")
AFTER_ALL = "\U0010ffff"  # sorts behind each text that begins like the one before it
MAX_FOUND = 200
NEWEST = 2_000  # rows that are read to find a part of a text

if TYPE_CHECKING:
    Base = ModelAdmin[Any]
else:
    Base = object


class FoundByUUID(Base):
    """A mixin for ModelAdmin that looks up a UUID in the search box in `uuid_field`."""

    uuid_field = ""

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if HYPHENATED.fullmatch(search_term.strip()):
            return queryset.filter(**{self.uuid_field: uuid.UUID(search_term.strip())}), False
        return super().get_search_results(request, queryset, search_term)


def keys_beginning_with(rows: QuerySet[Any], text: str, *fields: str) -> list[Any]:
    """Return the keys of rows with a field that begins with the text, at most MAX_FOUND for each field.

    Each field needs an index.
    """
    found: dict[Any, None] = {}
    for field in fields:
        matching = rows.filter(**{f"{field}__gte": text, f"{field}__lt": text + AFTER_ALL}).order_by(field)
        found |= dict.fromkeys(matching.values_list("pk", flat=True)[:MAX_FOUND])
    return list(found)


def keys_containing(rows: QuerySet[Any], text: str, *fields: str) -> list[Any]:
    """Return the keys of those of the first NEWEST rows in whose fields each word of the text occurs, in any case.

    The order of the rows needs an index.
    """
    words = text.lower().split()
    newest = rows.values_list("pk", *fields)[:NEWEST]
    texts = ((key, "\n".join(values).lower()) for key, *values in newest)
    return [key for key, values in texts if all(word in values for word in words)][:MAX_FOUND]
