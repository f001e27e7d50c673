"""The gateway's URLs with the routes of every cluster, configured or not (for `pytest.mark.urls`)."""

from django.urls import URLPattern, URLResolver, include, path

from lucid_gateway import urls
from lucid_gateway.policy.routes import ROUTES
from proxy.forwarding.resolving import ForwardedPaths
from proxy.forwarding.tickets import TicketsView

handler400, handler403, handler404, handler500 = urls.handler400, urls.handler403, urls.handler404, urls.handler500
urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v1/", include([ForwardedPaths(ROUTES), path("rdp/tickets", TicketsView.as_view())])),
    *urls.urlpatterns,
]
