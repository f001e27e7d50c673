"""Search by UUID on the operator pages, which works for whole UUIDs only, on every database."""

import re
import uuid
from typing import TYPE_CHECKING, Any

from django.contrib.admin import ModelAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

HYPHENATED = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")  # token ids have no hyphens

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
