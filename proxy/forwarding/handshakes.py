"""WebSocket handshakes (RFC 6455, section 4): the gateway decides on them, and the edge makes the tunnel."""

from collections.abc import Mapping

from django.http import HttpRequest, HttpResponse

from accounts.tokens.tickets import without_ticket
from lucid_gateway.kernel.record import record_of
from lucid_gateway.policy.errors import UpgradeRefused
from lucid_gateway.policy.reasons import Step
from lucid_gateway.policy.routes import Route
from proxy.choosing.balancer import choose, no_instance_error
from proxy.choosing.closures import refuse_if_closed
from proxy.clusters import cluster_named

# For the edge: what to ask the cluster for.
TARGET_FIELD = "X-Lucid-Target"


def accept_handshake(request: HttpRequest, route: Route, parameters: Mapping[str, str]) -> HttpResponse:
    """Return an answer with the target at the cluster; the ticket is not part of it.

    Raises UpgradeRefused if the route has no WebSockets, ClusterInMaintenance or CircuitOpen.
    """
    if not route.websocket:
        raise UpgradeRefused()
    record, cluster = record_of(request), cluster_named(route.cluster)
    record.cluster = cluster.name
    refuse_if_closed(cluster.name)
    record.passed(Step.MAINTENANCE)
    if choose(cluster) is None:
        raise no_instance_error(cluster)
    response = HttpResponse(status=204)
    del response.headers["Content-Type"]
    response.headers[TARGET_FIELD] = route.target(parameters, without_ticket(request.META.get("QUERY_STRING", "")))
    return response
