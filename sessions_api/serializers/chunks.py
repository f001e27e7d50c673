"""Serializers of the chunk endpoints."""

import re
from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from lucid_gateway.api.pagination import ONE_ROW, ListQuery, PaginationSerializer
from sessions_api.models import Chunk

MAX_INDEX = 1_000_000
INDEX, SHA256 = "X-Chunk-Index", "X-Chunk-SHA256"
SHOWN = {
    "chunk_id": "0b54c3de-9a3f-4f0e-8f5e-9d3d2c1c7a10",
    "index": 0,
    "size": 10_485_760,
    "hash": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "created_at": "2026-11-25T08:00:04Z",
}


class WholeNumber(serializers.IntegerField):
    """A whole number in ASCII digits, from a header field. DRF would accept other digits and spaces, too."""

    def to_internal_value(self, data: Any) -> int:
        if not re.fullmatch(r"-?[0-9]+", str(data)):
            self.fail("invalid")
        number: int = super().to_internal_value(data)
        return number


class ChunkFields(serializers.Serializer[None]):
    """The header fields of an upload."""

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        # Class attributes cannot be named for header fields: a Python name has no hyphen.
        return {
            INDEX: WholeNumber(min_value=0, max_value=MAX_INDEX),
            SHA256: serializers.RegexField(r"\A[0-9A-Fa-f]{64}\Z", default=""),
        }


@extend_schema_serializer(examples=[OpenApiExample("A chunk", SHOWN, response_only=True)])
class ChunkSerializer(serializers.ModelSerializer[Chunk]):
    """A recorded chunk as the API shows it."""

    hash = serializers.CharField(help_text="SHA-256 of its bytes, in lower-case hex")

    class Meta:
        model = Chunk
        fields = ("chunk_id", "index", "size", "hash", "created_at")
        read_only_fields = fields


@extend_schema_serializer(
    examples=[OpenApiExample("One chunk", {"chunks": [SHOWN], "pagination": ONE_ROW}, response_only=True)]
)
class ChunksPageSerializer(serializers.Serializer[None]):
    """The answer to GET /sessions/{session_id}/chunks."""

    chunks = ChunkSerializer(many=True)
    pagination = PaginationSerializer()


class ChunksQuery(ListQuery):
    """The query of GET /sessions/{session_id}/chunks."""

    sortable = ("index",)
    default_sort = "index"
