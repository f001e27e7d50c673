"""Endpoints that create and read manifests, prove chunks and anchor Merkle roots."""

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.views.idempotent import idempotent
from lucid_gateway.api.pagination import page_of
from lucid_gateway.api.requests import caller, parse, parse_query, uuid_of
from lucid_gateway.kernel.record import record_of
from lucid_gateway.policy.errors import NotFound, WrongFormat
from ratelimit.endpoints import CallerView
from sessions_api import anchoring, manifests
from sessions_api.etags import ETAG, IF_MATCH, IF_NONE_MATCH, client_has, etag, expected_version, with_etag
from sessions_api.merkle import leaf_hash
from sessions_api.models import Manifest, Session
from sessions_api.models.manifests import ManifestQuerySet
from sessions_api.readers import may_read_all, readable_user_id
from sessions_api.serializers import manifests as shapes


def own_manifest(request: Request, text: str) -> Manifest:
    """Return the caller's manifest with that id; raise NotAUUID or NotFound."""
    return get_by_id(Manifest.objects.filter(user_id=caller(request).user_id), text)


def readable_manifest(request: Request, text: str) -> Manifest:
    """Return a manifest that the caller may read: their own, or for staff any; raise NotAUUID or NotFound."""
    reader = caller(request)
    rows = Manifest.objects.all() if may_read_all(reader) else Manifest.objects.filter(user_id=reader.user_id)
    return get_by_id(rows, text)


def manifests_of(user_id: str) -> ManifestQuerySet:
    """Return the user's manifests without those of half-deleted sessions.

    Those sessions are few, so their ids are read first: with a join, MongoDB would look up every manifest's session.
    """
    gone = Session.objects.half_deleted().filter(user_id=user_id).order_by().values_list("pk", flat=True)
    return Manifest.objects.owned_by(user_id).exclude(session_id__in=list(gone))


def get_by_id(rows: Any, text: str) -> Manifest:
    """Return the row with that id; raise NotAUUID, or NotFound also if its session is being deleted."""
    manifest: Manifest | None = rows.filter(pk=uuid_of(text)).select_related("session").first()
    if manifest is None or manifest.session.is_deleted:
        raise NotFound()
    return manifest


def etag_of(manifest: Manifest) -> str:
    state = (manifest.anchor_status, manifest.anchor_transaction_id, manifest.validated_at.timestamp())
    return etag(manifest.pk, manifest.version, *state)


def answer(request: Request, manifest: Manifest, code: int = status.HTTP_200_OK, **headers: str) -> Response:
    """Return the manifest with its entity tag. For a client that has it already, no chunk is read."""
    tag = etag_of(manifest)
    data = None if client_has(request, tag) else shapes.ManifestSerializer(manifest).data
    return with_etag(request, tag, Response(data, status=code, headers=headers))


class ManifestsView(CallerView):
    permissions = {"GET": "session:read", "POST": "session:update"}

    @extend_schema(
        operation_id="manifests_list",
        parameters=[shapes.ManifestsQuery],
        responses=shapes.ManifestsPageSerializer,
        tags=["manifests"],
    )
    def get(self, request: Request) -> Response:
        """List the caller's manifests without their chunks. Staff may list another user's with `user_id`."""
        query = parse_query(shapes.ManifestsQuery, request)
        exact = {name: query[name] for name in ("session_id", "anchor_status") if name in query}
        rows = manifests_of(readable_user_id(caller(request), query.get("user_id"))).filter(**exact)
        show = lambda page: shapes.ManifestSummarySerializer(page, many=True).data  # noqa: E731
        return Response(page_of(rows, query, name="manifests", show=show))

    @idempotent()
    @extend_schema(
        request=shapes.NewManifestSerializer, responses={201: shapes.ManifestSerializer}, parameters=[ETAG],
        tags=["manifests"],
    )  # fmt: skip
    def post(self, request: Request, resource_id: uuid.UUID | None = None) -> Response:
        """Create the manifest of a completed session; 409 if chunks are missing or the session already has one."""
        session_id = parse(shapes.NewManifestSerializer, request)["session_id"]
        session = Session.objects.owned_by(caller(request).user_id).filter(pk=session_id).first()
        if session is None:
            raise NotFound()
        manifest = manifests.make_manifest(session, manifest_id=resource_id)
        return answer(request, manifest, status.HTTP_201_CREATED, Location=f"/api/v1/manifests/{manifest.pk}")


class ManifestView(CallerView):
    permissions = {"GET": "session:read", "PUT": "session:update"}

    @extend_schema(
        parameters=[IF_NONE_MATCH, ETAG], responses={200: shapes.ManifestSerializer, 304: None}, tags=["manifests"]
    )
    def get(self, request: Request, manifest_id: str) -> Response:
        """Return a manifest with its chunks. Its owner and staff may read it."""
        return answer(request, readable_manifest(request, manifest_id))

    @extend_schema(
        request=shapes.ManifestUpdateSerializer, responses=shapes.ManifestSerializer, parameters=[IF_MATCH, ETAG],
        tags=["manifests"],
    )  # fmt: skip
    def put(self, request: Request, manifest_id: str) -> Response:
        """Replace the metadata; nothing else in a manifest can change."""
        manifest = own_manifest(request, manifest_id)
        version = expected_version(request, etag_of(manifest), manifest.version)
        data = parse(shapes.ManifestUpdateSerializer, request)
        return answer(request, manifests.update_metadata(manifest, version=version, metadata=data["metadata"]))


class ProofView(CallerView):
    permissions = {"GET": "session:read"}

    @extend_schema(responses=shapes.ProofSerializer, tags=["manifests"])
    def get(self, request: Request, manifest_id: str, index: str) -> Response:
        """Prove that the chunk at the index is part of the manifest (RFC 6962, section 2.1.1)."""
        manifest = readable_manifest(request, manifest_id)
        if not (index.isascii() and index.isdecimal() and len(index) <= 10):
            raise WrongFormat(details={"validation_errors": [{"field": "index", "message": "Must be a whole number.",
                                                              "code": "invalid"}]})  # fmt: skip
        proof = manifests.prove(manifest, int(index))
        return Response(
            {
                "manifest_id": str(manifest.pk),
                "index": proof.index,
                "chunk_hash": proof.chunk_hash.hex(),
                "leaf_hash": leaf_hash(proof.chunk_hash).hex(),
                "tree_size": proof.tree_size,
                "merkle_root": proof.root.hex(),
                "audit_path": [one.hex() for one in proof.path],
            }
        )


class AnchorView(CallerView):
    permissions = {"POST": "session:update"}

    @extend_schema(request=None, responses={200: shapes.ManifestSerializer, 202: shapes.ManifestSerializer},
                   parameters=[ETAG], tags=["manifests"])  # fmt: skip
    def post(self, request: Request, manifest_id: str) -> Response:
        """Anchor the root on the blockchain, or check a pending attempt; 202 while it is pending. Safe to repeat."""
        manifest = anchoring.anchor(
            own_manifest(request, manifest_id),
            caller=caller(request),
            request_id=record_of(request._request).request_id,
        )
        pending = manifest.anchor_status == Manifest.Anchor.PENDING
        return answer(request, manifest, status.HTTP_202_ACCEPTED if pending else status.HTTP_200_OK)
