"""What the gateway says of itself."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import django
from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from lucid_gateway import __version__
from lucid_gateway.api.requests import parse_query
from lucid_gateway.kernel.advisories import advisories
from lucid_gateway.kernel.documents import json_document
from lucid_gateway.meta import health, monitoring
from lucid_gateway.policy.errors import UNAVAILABLE_SECONDS
from ratelimit.endpoints import CallerView
from ratelimit.throttling import MonitorThrottle, PublicThrottle

STARTED = time.monotonic()


class MetaView(APIView):
    """An endpoint for anyone, limited by address."""

    authentication_classes = []
    permission_classes = []
    throttle_classes = [PublicThrottle]


class ProbeView(MetaView):
    """An endpoint for orchestrators, that no limit may make look down."""

    throttle_classes = []


class InfoSerializer(serializers.Serializer[None]):
    """The answer to GET /meta/info."""

    service = serializers.CharField()
    description = serializers.CharField()
    version = serializers.CharField()
    environment = serializers.CharField()
    documentation = serializers.CharField(allow_null=True)


class LinksSerializer(serializers.Serializer[None]):
    """Where to go on from GET /."""

    info = serializers.URLField()
    health = serializers.URLField()
    version = serializers.URLField()
    admin = serializers.URLField(help_text="The operator pages")
    docs = serializers.URLField(allow_null=True, help_text="null where the API documents are switched off")
    openapi = serializers.URLField(allow_null=True)


class RootSerializer(serializers.Serializer[None]):
    """The answer to GET /."""

    service = serializers.CharField()
    links = LinksSerializer()


class VersionSerializer(serializers.Serializer[None]):
    """The answer to GET /meta/version."""

    service = serializers.CharField()
    version = serializers.CharField(help_text="Of the API")
    release = serializers.CharField(help_text="Of the gateway")
    django = serializers.CharField()


class HealthSerializer(serializers.Serializer[None]):
    """The answer to GET /meta/health."""

    status = serializers.ChoiceField(choices=["healthy", "degraded", "unhealthy"])
    timestamp = serializers.DateTimeField()
    service = serializers.CharField()
    version = serializers.CharField()
    dependencies = serializers.DictField(child=serializers.ChoiceField(choices=["healthy", "unhealthy", "unknown"]))
    warnings = serializers.ListField(
        child=serializers.CharField(), help_text="What an operator should change although everything works"
    )
    uptime = serializers.FloatField(help_text="Seconds since this worker started")
    response_time = serializers.FloatField(help_text="Milliseconds that the check took")


class StatusSerializer(serializers.Serializer[None]):
    """The answer to the liveness and readiness probes."""

    status = serializers.CharField()


class MetricsQuery(serializers.Serializer[None]):
    """The query of GET /meta/metrics."""

    format = serializers.ChoiceField(
        choices=["json", "prometheus"], required=False, help_text="Instead of what `Accept` says"
    )


class FiguresSerializer(serializers.Serializer[None]):
    """All workers of this gateway, in the last minute."""

    requests_per_second = serializers.FloatField()
    response_time_p50 = serializers.FloatField(help_text="Milliseconds, as all times here, right within 5 %")
    response_time_p95 = serializers.FloatField()
    response_time_p99 = serializers.FloatField()
    error_rate = serializers.FloatField(help_text="The share of 5xx, 0 to 1")
    active_connections = serializers.IntegerField(help_text="Open client connections, now")


class MetricsSerializer(serializers.Serializer[None]):
    """The answer to GET /meta/metrics."""

    timestamp = serializers.DateTimeField()
    metrics = FiguresSerializer()


def answer_of(found: health.Health, body: Mapping[str, Any]) -> Response:
    """Return the body with 200, or with 503 and when to ask again."""
    if found.status == health.UNHEALTHY:
        return Response(body, status=503, headers={"Retry-After": str(UNAVAILABLE_SECONDS)})
    return Response(body)


class RootView(MetaView):
    """Where somebody begins who knows the address alone."""

    @extend_schema(operation_id="root", responses=RootSerializer, tags=["meta"])
    def get(self, request: Request) -> HttpResponse:
        """Say where everything is."""
        env = settings.ENV
        paths = {name: f"/api/v1/meta/{name}" for name in ("info", "health", "version")} | {"admin": "/admin/"}
        documents = {"docs": "/docs", "openapi": "/openapi.json"}
        links = {name: f"{env.PUBLIC_BASE_URL}{path}" for name, path in (paths | documents).items()}
        hidden = {} if env.docs_enabled else dict.fromkeys(documents)
        return json_document({"service": env.SERVICE_NAME, "links": links | hidden}).answer(request._request)


class InfoView(MetaView):
    """What this is."""

    @extend_schema(responses=InfoSerializer, tags=["meta"])
    def get(self, request: Request) -> HttpResponse:
        """Say what this service is and where its documents are."""
        env = settings.ENV
        about = {
            "service": env.SERVICE_NAME,
            "description": "Primary entry point for all Lucid blockchain system APIs",
            "version": env.API_VERSION,
            "environment": env.ENVIRONMENT,
            "documentation": f"{env.PUBLIC_BASE_URL}/docs" if env.docs_enabled else None,
        }
        return json_document(about).answer(request._request)


class VersionView(MetaView):
    """Which release this is."""

    @extend_schema(responses=VersionSerializer, tags=["meta"])
    def get(self, request: Request) -> HttpResponse:
        """Say which versions run here."""
        env = settings.ENV
        versions = {"version": env.API_VERSION, "release": __version__, "django": django.get_version()}
        return json_document({"service": env.SERVICE_NAME, **versions}).answer(request._request)


class HealthView(MetaView):
    """How the gateway and what it depends on are."""

    @extend_schema(responses={200: HealthSerializer, 503: HealthSerializer}, tags=["meta"])
    def get(self, request: Request) -> Response:
        """Ask database and Redis, and tell what the health checks found of the clusters, within a second; 503 only when
        nobody could be served.
        """
        started = time.perf_counter()
        found = health.check()
        answer: dict[str, Any] = {
            "status": found.status,
            "timestamp": datetime.now(UTC),
            "service": settings.ENV.SERVICE_NAME,
            "version": settings.ENV.API_VERSION,
            "dependencies": found.dependencies,
            "warnings": advisories.texts(),
            "uptime": round(time.monotonic() - STARTED, 3),
            "response_time": round((time.perf_counter() - started) * 1000, 2),
        }
        return answer_of(found, answer)


class LiveView(ProbeView):
    """Whether this worker runs."""

    @extend_schema(responses=StatusSerializer, tags=["meta"])
    def get(self, request: Request) -> Response:
        """Answer, and ask nothing of anyone."""
        return Response({"status": "alive"})


class ReadyView(ProbeView):
    """Whether requests should be sent here."""

    @extend_schema(responses={200: StatusSerializer, 503: StatusSerializer}, tags=["meta"])
    def get(self, request: Request) -> Response:
        """Answer 200 while the gateway can serve, 503 when it cannot."""
        found = health.check()
        return answer_of(found, {"status": "not ready" if found.status == health.UNHEALTHY else "ready"})


class MetricsView(CallerView):
    """How much the gateway does."""

    permissions = {"GET": MonitorThrottle.permission}
    throttle_classes = [MonitorThrottle]

    @extend_schema(
        parameters=[MetricsQuery],
        responses={
            (200, "application/json"): MetricsSerializer,
            (200, "text/plain"): OpenApiResponse(str, "All metrics as Prometheus reads them"),
            (200, "application/openmetrics-text"): OpenApiResponse(str, "All metrics as Prometheus reads them"),
        },
        tags=["meta"],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Give figures of the last minute, or all metrics as Prometheus text where `Accept` or `format` asks for it."""
        wanted = parse_query(MetricsQuery, request).get("format")
        media_type = monitoring.preferred(request._request.accepted_types)
        if wanted == "json" or (wanted is None and media_type == monitoring.JSON):
            response: HttpResponse = Response({"timestamp": datetime.now(UTC), "metrics": monitoring.figures()})
        else:
            text, content_type = monitoring.exposition("text/plain" if media_type == monitoring.JSON else media_type)
            response = HttpResponse(text, content_type=content_type)
        patch_vary_headers(response, ["Accept"])
        return response
