"""Every URL of the gateway."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularRedocView, SpectacularSwaggerView

from accounts.urls import root_urlpatterns as account_pages
from lucid_gateway.meta.views import RootView

handler400 = "lucid_gateway.error_responses.bad_request"
handler403 = "lucid_gateway.error_responses.permission_denied"
handler404 = "lucid_gateway.error_responses.page_not_found"
handler500 = "lucid_gateway.error_responses.server_error"

api = [
    path("meta/", include("lucid_gateway.meta.urls")),
    path("", include("accounts.urls")),
    path("", include("sessions_api.urls")),
    path("", include("proxy.urls")),
]
open_view: dict[str, Any] = {
    "authentication_classes": [],
    "permission_classes": [],
    "throttle_classes": [],
    "http_method_names": ["get", "head"],
}
docs = [
    path("openapi.json", SpectacularJSONAPIView.as_view(**open_view), name="openapi"),
    path("docs", SpectacularSwaggerView.as_view(url_name="openapi", **open_view), name="docs"),
    path("redoc", SpectacularRedocView.as_view(url_name="openapi", **open_view), name="redoc"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RootView.as_view(), name="root"),
    path("api/v1/", include(api)),
    path("admin/", admin.site.urls),
    *account_pages,
]
if settings.ENV.docs_enabled:
    urlpatterns += docs
