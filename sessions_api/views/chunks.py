"""Endpoints that upload a session's chunks, list them and describe one."""

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from lucid_gateway.api.openapi import ERROR_EXAMPLE
from lucid_gateway.api.pagination import page_of
from lucid_gateway.api.requests import caller, parse_query, uuid_of, valid
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.policy.errors import NotFound, UnsupportedMediaType
from lucid_gateway.policy.routes import CHUNK_UPLOAD
from lucid_gateway.server.body import declared_length
from proxy.forwarding.forwarder import Forwarded
from proxy.forwarding.schema import description_of
from proxy.forwarding.views import ForwardedResponse
from ratelimit.endpoints import CallerView
from ratelimit.throttling import AuthenticatedThrottle, ChunkUploadThrottle
from sessions_api.chunk_body import MAX_CHUNK, ChunkBody, empty_chunk, too_large
from sessions_api.etags import ETAG, IF_NONE_MATCH, with_etag
from sessions_api.models import Chunk, Session
from sessions_api.readers import may_read_all
from sessions_api.serializers.chunks import (
    INDEX,
    MAX_INDEX,
    SHA256,
    ChunkFields,
    ChunkSerializer,
    ChunksPageSerializer,
    ChunksQuery,
)
from sessions_api.uploads import OTHER_CHUNK, upload_chunk

OCTETS = "application/octet-stream"
FIELDS = [
    OpenApiParameter(
        INDEX,
        {"type": "integer", "minimum": 0, "maximum": MAX_INDEX},
        OpenApiParameter.HEADER,
        required=True,
        description="The chunk's place in the recording",
    ),
    OpenApiParameter(
        SHA256,
        {"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"},
        OpenApiParameter.HEADER,
        description="The SHA-256 of the body in hex; a body with another hash is refused",
    ),
]
UPLOAD = f"""Upload a chunk.

Uploading the same content again returns 200 and counts once; different content for the same index returns 409.

{description_of(CHUNK_UPLOAD)}"""
OTHER_CONTENT = {"code": "LUCID_ERR_4002", "message": OTHER_CHUNK, "details": {"index": 0}}
TAKEN = OpenApiExample(
    "The index holds a different chunk",
    {"error": ERROR_EXAMPLE["error"] | OTHER_CONTENT},
    response_only=True,
    status_codes=["default"],
)
REFUSED = OpenApiResponse(OpenApiTypes.OBJECT, "The gateway's error envelope, or the cluster's own answer.", [TAKEN])


class ChunksView(CallerView):
    streams_body = True
    routes = {"POST": CHUNK_UPLOAD}
    permissions = {"GET": "session:read", "POST": CHUNK_UPLOAD.permission}
    throttle_classes = [AuthenticatedThrottle]

    def setup(self, request: HttpRequest, *arguments: Any, **parameters: Any) -> None:
        """Limit uploads by their own rate-limit tier, other requests by the tier of authenticated callers."""
        super().setup(request, *arguments, **parameters)
        self.throttle_classes = [ChunkUploadThrottle if request.method == "POST" else AuthenticatedThrottle]

    @extend_schema(
        operation_id="sessions_chunks_list",
        parameters=[ChunksQuery],
        responses=ChunksPageSerializer,
        tags=["sessions"],
    )
    def get(self, request: Request, session_id: str) -> Response:
        """List the recorded chunks of a session. Its owner and staff may read them."""
        query = parse_query(ChunksQuery, request)
        chunks = Chunk.objects.recorded().filter(session=readable_session(caller(request), session_id))
        show = lambda page: ChunkSerializer(page, many=True).data  # noqa: E731
        return Response(page_of(chunks, query, name="chunks", show=show))

    @extend_schema(
        description=UPLOAD,
        parameters=FIELDS,
        request={OCTETS: OpenApiTypes.BINARY},
        responses={201: ChunkSerializer, 200: ChunkSerializer, "default": REFUSED},
        tags=["sessions"],
    )
    def post(self, request: Request, session_id: str) -> HttpResponseBase:
        """Upload a chunk: 201 once the cluster has accepted it, 200 if the same chunk was already recorded."""
        require_octets(request)
        key, fields = uuid_of(session_id), valid(ChunkFields(data=upload_headers(request)))
        body = body_of(request, expected_hash=fields[SHA256])
        done = upload_chunk(request._request, caller(request), session_id=key, index=fields[INDEX], body=body)
        if isinstance(done, Forwarded):
            self.headers: dict[str, str] = {}  # the cluster's answer keeps its own header fields
            return ForwardedResponse(done.answer, done.body)
        return Response(ChunkSerializer(done.chunk).data, status=201 if done.created else 200)


class ChunkView(CallerView):
    permissions = {"GET": "session:read"}

    @extend_schema(parameters=[IF_NONE_MATCH, ETAG], responses={200: ChunkSerializer, 304: None}, tags=["sessions"])
    def get(self, request: Request, session_id: str, chunk_id: str) -> Response:
        """Return the index, size and hash of a recorded chunk. The session's owner and staff may read them."""
        session = readable_session(caller(request), session_id)
        rows = Chunk.objects.recorded().filter(pk=uuid_of(chunk_id), session=session)
        chunk = rows.order_by().first()  # the default order would join the sessions
        if chunk is None:
            raise NotFound()
        return with_etag(request, f'"{chunk.hash}"', Response(ChunkSerializer(chunk).data))


def require_octets(request: Request) -> None:
    """Raise UnsupportedMediaType for any other content type than application/octet-stream."""
    if (request._request.content_type or "").lower() != OCTETS:
        raise UnsupportedMediaType(f"Send a chunk as {OCTETS}")


def upload_headers(request: Request) -> dict[str, str]:
    """Return the upload's own header fields, without those that the client left out."""
    return {name: request.headers[name] for name in (INDEX, SHA256) if name in request.headers}


def body_of(request: Request, *, expected_hash: str) -> ChunkBody:
    """Return the unread body of an upload; raise ChunkTooLarge or InvalidRequest."""
    http_request = request._request
    length = None if "HTTP_TRANSFER_ENCODING" in http_request.META else declared_length(http_request)
    if length == 0:
        raise empty_chunk()
    if length is not None and length > MAX_CHUNK:
        raise too_large()
    return ChunkBody(http_request.META["wsgi.input"], length=length, expected_hash=expected_hash)


def readable_session(reader: Caller, session_id: str) -> Session:
    """Return a session that the caller may read, with its key alone; raise NotAUUID or NotFound."""
    rows = Session.objects.undeleted().filter(pk=uuid_of(session_id))
    if not may_read_all(reader):
        rows = rows.filter(user_id=reader.user_id)
    session = rows.only("pk").first()
    if session is None:
        raise NotFound()
    return session
