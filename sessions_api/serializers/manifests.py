"""Serializers of manifests and proofs."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from lucid_gateway.api.pagination import ONE_ROW, ListQuery, PaginationSerializer
from sessions_api.cooperation import letting_others_run
from sessions_api.models import Chunk, Manifest
from sessions_api.serializers.chunks import ChunkSerializer
from sessions_api.serializers.fields import Id, Metadata

CHUNKS_PER_BATCH = 500
UUID_1, UUID_2 = "7b0a5f3e-8f0e-4a1c-9d55-0d8f6a4c2b11", "2f6f3c5a-54a7-4f0e-8a55-4f8f2b9f6c01"
ROOT = "9a3f1c0be2d84f6e7a5b1c2d3e4f5061728394a5b6c7d8e9f0a1b2c3d4e5f607"

SUMMARY = {
    "manifest_id": UUID_1, "session_id": UUID_2, "merkle_root": ROOT, "chunk_count": 2,
    "total_size": 20_971_520, "validation_status": "valid", "validated_at": "2026-01-02T03:04:05Z",
    "metadata": {"case": "4711"}, "blockchain_anchored": False, "anchor_status": "none", "anchor_transaction_id": "",
    "anchor_block_height": None, "anchor_error": "", "anchored_at": None,
    "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z",
}  # fmt: skip
WHOLE = SUMMARY | {
    "chunks": [
        {"chunk_id": UUID_1, "index": 0, "size": 10_485_760, "hash": ROOT, "created_at": "2026-01-02T03:00:00Z"},
        {"chunk_id": UUID_2, "index": 1, "size": 10_485_760, "hash": ROOT, "created_at": "2026-01-02T03:01:00Z"},
    ],
    "chunks_left_out": 0,
}
PENDING = WHOLE | {"anchor_status": "pending", "anchor_transaction_id": "tx-4711"}


@extend_schema_serializer(examples=[OpenApiExample("Of a session", {"session_id": UUID_2}, request_only=True)])
class NewManifestSerializer(serializers.Serializer[None]):
    """POST /manifests."""

    session_id = Id()


class ManifestsQuery(ListQuery):
    """The query of GET /manifests."""

    sortable = ("created_at",)
    default_sort = "-created_at"

    session_id = Id(required=False)
    anchor_status = serializers.ChoiceField(Manifest.Anchor.choices, required=False)
    user_id = Id(required=False, help_text="The owner of the manifests; only staff may name another user")


class ManifestSummarySerializer(serializers.ModelSerializer[Manifest]):
    """A manifest without its chunks."""

    blockchain_anchored = serializers.BooleanField(read_only=True)
    metadata = serializers.DictField()

    class Meta:
        model = Manifest
        fields = (
            "manifest_id", "session_id", "merkle_root", "chunk_count", "total_size", "validation_status",
            "validated_at", "metadata", "blockchain_anchored", "anchor_status", "anchor_transaction_id",
            "anchor_block_height", "anchor_error", "anchored_at", "created_at", "updated_at",
        )  # fmt: skip
        read_only_fields = fields


@extend_schema_serializer(
    examples=[
        OpenApiExample("A manifest of two chunks", WHOLE, response_only=True),
        OpenApiExample("Being anchored", PENDING, response_only=True, status_codes=["202"]),
    ]
)
class ManifestSerializer(ManifestSummarySerializer):
    """A manifest with its first 10,000 chunks."""

    MAX_CHUNKS = 10_000

    chunks = serializers.SerializerMethodField()
    chunks_left_out = serializers.SerializerMethodField(help_text="GET /sessions/{session_id}/chunks lists all")

    class Meta(ManifestSummarySerializer.Meta):
        fields = (*ManifestSummarySerializer.Meta.fields, "chunks", "chunks_left_out")  # type: ignore[assignment]
        read_only_fields = fields  # type: ignore[assignment]

    @extend_schema_field(ChunkSerializer(many=True))
    def get_chunks(self, manifest: Manifest) -> Any:
        rows = Chunk.objects.recorded().filter(session_id=manifest.session_id).order_by("index")[: self.MAX_CHUNKS]
        show = ChunkSerializer().to_representation
        return [show(row) for row in letting_others_run(rows.iterator(CHUNKS_PER_BATCH), CHUNKS_PER_BATCH)]

    def get_chunks_left_out(self, manifest: Manifest) -> int:
        return max(0, manifest.chunk_count - self.MAX_CHUNKS)


@extend_schema_serializer(
    examples=[OpenApiExample("One manifest", {"manifests": [SUMMARY], "pagination": ONE_ROW}, response_only=True)]
)
class ManifestsPageSerializer(serializers.Serializer[None]):
    """The answer to GET /manifests."""

    manifests = ManifestSummarySerializer(many=True)
    pagination = PaginationSerializer()


@extend_schema_serializer(examples=[OpenApiExample("Another note", {"metadata": {"case": "4712"}}, request_only=True)])
class ManifestUpdateSerializer(serializers.Serializer[None]):
    """PUT /manifests/{manifest_id}: the owner's metadata; nothing else in a manifest can change."""

    metadata = Metadata()


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "The proof of the first of two chunks",
            value={"manifest_id": UUID_1, "index": 0, "chunk_hash": ROOT, "leaf_hash": ROOT, "tree_size": 2,
                   "merkle_root": ROOT, "audit_path": [ROOT]},
            response_only=True,
        )
    ]
)  # fmt: skip
class ProofSerializer(serializers.Serializer[None]):
    """The proof that a chunk is part of a manifest: hashes in hex, the path from the leaf up to the root."""

    manifest_id = serializers.UUIDField()
    index = serializers.IntegerField()
    chunk_hash = serializers.CharField(help_text="SHA-256 of the chunk")
    leaf_hash = serializers.CharField(help_text="SHA-256 of 0x00 and the chunk's hash")
    tree_size = serializers.IntegerField()
    merkle_root = serializers.CharField()
    audit_path = serializers.ListField(child=serializers.CharField())
