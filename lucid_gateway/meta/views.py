"""The endpoints about the gateway: root, info, version, health and metrics."""

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
    """A public endpoint with a limit for each address."""

    authentication_classes = []
    permission_classes = []
    throttle_classes = [PublicThrottle]


class ProbeView(MetaView):
    """An endpoint for orchestrators. It has no limit, because a refusal would look like an outage."""

    throttle_classes = []


class InfoSerializer(serializers.Serializer[None]):
    """The answer to GET /meta/info."""

    service = serializers.CharField()
    description = serializers.CharField()
    version = serializers.CharField()
    environment = serializers.CharField()
    documentation = serializers.CharField(allow_null=True)


class LinksSerializer(serializers.Serializer[None]):
    """The links in the answer to GET /."""

    info = serializers.URLField()
    health = serializers.URLField()
    version = serializers.URLField()
    admin = serializers.URLField(help_text="The operator pages")
    docs = serializers.URLField(allow_null=True, help_text="null if the API documents are disabled")
    openapi = serializers.URLField(allow_null=True)


class RootSerializer(serializers.Serializer[None]):
    """The answer to GET /."""

    service = serializers.CharField()
    links = LinksSerializer()


class VersionSerializer(serializers.Serializer[None]):
    """The answer to GET /meta/version."""

    service = serializers.CharField()
    version = serializers.CharField(help_text="Version of the API")
    release = serializers.CharField(help_text="Release of the gateway")
    django = serializers.CharField()


class HealthSerializer(serializers.Serializer[None]):
    """The answer to GET /meta/health."""

    status = serializers.ChoiceField(choices=["healthy", "degraded", "unhealthy"])
    timestamp = serializers.DateTimeField()
    service = serializers.CharField()
    version = serializers.CharField()
    dependencies = serializers.DictField(child=serializers.ChoiceField(choices=["healthy", "unhealthy", "unknown"]))
    warnings = serializers.ListField(
        child=serializers.CharField(), help_text="Problems that operators should correct although everything works"
    )
    uptime = serializers.FloatField(help_text="Seconds since this worker started")
    response_time = serializers.FloatField(help_text="Duration of the check in milliseconds")


class StatusSerializer(serializers.Serializer[None]):
    """The answer to the liveness and readiness probes."""

    status = serializers.CharField()


class MetricsQuery(serializers.Serializer[None]):
    """The query of GET /meta/metrics."""

    format = serializers.ChoiceField(
        choices=["json", "prometheus"], required=False, help_text="Overrides the `Accept` header"
    )


class FiguresSerializer(serializers.Serializer[None]):
    """The figures of all workers of this gateway in the last minute."""

    requests_per_second = serializers.FloatField()
    response_time_p50 = serializers.FloatField(help_text="Milliseconds, accurate within 5 %, like the other times")
    response_time_p95 = serializers.FloatField()
    response_time_p99 = serializers.FloatField()
    error_rate = serializers.FloatField(help_text="The share of 5xx answers, from 0 to 1")
    active_connections = serializers.IntegerField(help_text="Client connections that are open now")


class MetricsSerializer(serializers.Serializer[None]):
    """The answer to GET /meta/metrics."""

    timestamp = serializers.DateTimeField()
    metrics = FiguresSerializer()


def answer_of(found: health.Health, body: Mapping[str, Any]) -> Response:
    """Return the body with 200, or with 503 and Retry-After if the gateway is unhealthy."""
    if found.status == health.UNHEALTHY:
        return Response(body, status=503, headers={"Retry-After": str(UNAVAILABLE_SECONDS)})
    return Response(body)


class RootView(MetaView):
    """The entry point for clients that know only the gateway's address."""

    @extend_schema(operation_id="root", responses=RootSerializer, tags=["meta"])
    def get(self, request: Request) -> HttpResponse:
        """Return links to the other endpoints."""
        env = settings.ENV
        paths = {name: f"/api/v1/meta/{name}" for name in ("info", "health", "version")} | {"admin": "/admin/"}
        documents = {"docs": "/docs", "openapi": "/openapi.json"}
        links = {name: f"{env.PUBLIC_BASE_URL}{path}" for name, path in (paths | documents).items()}
        hidden = {} if env.docs_enabled else dict.fromkeys(documents)
        return json_document({"service": env.SERVICE_NAME, "links": links | hidden}).answer(request._request)


class InfoView(MetaView):
    @extend_schema(responses=InfoSerializer, tags=["meta"])
    def get(self, request: Request) -> HttpResponse:
        """Return what this service is and where its documentation is."""
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
    @extend_schema(responses=VersionSerializer, tags=["meta"])
    def get(self, request: Request) -> HttpResponse:
        """Return the versions of the API, the gateway and Django."""
        env = settings.ENV
        versions = {"version": env.API_VERSION, "release": __version__, "django": django.get_version()}
        return json_document({"service": env.SERVICE_NAME, **versions}).answer(request._request)


class HealthView(MetaView):
    @extend_schema(responses={200: HealthSerializer, 503: HealthSerializer}, tags=["meta"])
    def get(self, request: Request) -> Response:
        """Return the health of the database, Redis and the clusters.

        The database and Redis are queried; the clusters' health is that of their last check. The answer comes within
        a second. The status is 503 only if the gateway cannot serve any caller.
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
    @extend_schema(responses=StatusSerializer, tags=["meta"])
    def get(self, request: Request) -> Response:
        """Return 200 while this worker runs, without checking dependencies."""
        return Response({"status": "alive"})


class ReadyView(ProbeView):
    @extend_schema(responses={200: StatusSerializer, 503: StatusSerializer}, tags=["meta"])
    def get(self, request: Request) -> Response:
        """Return 200 while the gateway can serve requests, otherwise 503."""
        found = health.check()
        return answer_of(found, {"status": "not ready" if found.status == health.UNHEALTHY else "ready"})


class MetricsView(CallerView):
    permissions = {"GET": MonitorThrottle.permission}
    throttle_classes = [MonitorThrottle]

    @extend_schema(
        parameters=[MetricsQuery],
        responses={
            (200, "application/json"): MetricsSerializer,
            (200, "text/plain"): OpenApiResponse(str, "All metrics in Prometheus's text format"),
            (200, "application/openmetrics-text"): OpenApiResponse(str, "All metrics in the OpenMetrics format"),
        },
        tags=["meta"],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Return the figures of the last minute, or all metrics as text if `Accept` or `format` asks for that."""
        wanted = parse_query(MetricsQuery, request).get("format")
        media_type = monitoring.preferred(request._request.accepted_types)
        if wanted == "json" or (wanted is None and media_type == monitoring.JSON):
            response: HttpResponse = Response({"timestamp": datetime.now(UTC), "metrics": monitoring.figures()})
        else:
            text, content_type = monitoring.exposition("text/plain" if media_type == monitoring.JSON else media_type)
            response = HttpResponse(text, content_type=content_type)
        patch_vary_headers(response, ["Accept"])
        return response
