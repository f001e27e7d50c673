"""Every URL of the gateway."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from accounts.urls import root_urlpatterns as account_pages
from lucid_gateway.console.preview.api import PreviewView
from lucid_gateway.meta.api_documents import OpenAPIDocument, RedocPage, SwaggerPage
from lucid_gateway.meta.views import RootView

admin.autodiscover()

handler400 = "lucid_gateway.kernel.error_responses.bad_request"
handler403 = "lucid_gateway.kernel.error_responses.permission_denied"
handler404 = "lucid_gateway.kernel.error_responses.page_not_found"
handler500 = "lucid_gateway.kernel.error_responses.server_error"

api: list[URLPattern | URLResolver] = [
    path("", include("proxy.urls")),  # first: forwarded paths are found without trying the patterns of the others
    path("meta/", include("lucid_gateway.meta.urls")),
    path("", include("accounts.urls")),
    path("", include("sessions_api.urls")),
    path("", include("lucid_gateway.explorer.urls")),
    path("admin/preview", PreviewView.as_view(), name="admin-preview"),
]
docs = [
    path("openapi.json", OpenAPIDocument.as_view(), name="openapi"),
    path("docs", SwaggerPage.as_view(), name="docs"),
    path("redoc", RedocPage.as_view(), name="redoc"),
]

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RootView.as_view(), name="root"),
    path("api/v1/", include(api)),
    path("admin/", admin.site.urls),
    *account_pages,
]
if settings.ENV.docs_enabled:
    urlpatterns += docs
