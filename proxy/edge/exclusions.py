"""The routes that operators have taken off the edge, as each worker keeps them in memory."""

from lucid_gateway.kernel.snapshots.snapshot import Snapshot
from lucid_gateway.policy.routes import ROUTES, Route
from proxy.models import EdgeExclusion

ALL_ROUTES = ""  # in place of a path


def read_excluded() -> frozenset[str]:
    """Read the paths that the edge leaves to the gateway; raise django.db.Error."""
    return frozenset(EdgeExclusion.objects.values_list("path", flat=True))


excluded_cache: Snapshot[frozenset[str]] = Snapshot("edge_exclusions", read_excluded, frozenset())


def edge_routes(path: str) -> tuple[Route, ...]:
    """Return the routes with this path, or all, that the edge may serve."""
    return tuple(route for route in ROUTES if route.edge and path in (route.path, ALL_ROUTES))
