"""One URL for each path of the route table, and the admin API for clusters."""

from collections.abc import Mapping

from django.urls import URLPattern, URLResolver, include, path

from proxy.forwarding.views import ForwardView
from proxy.operators.views import ClusterMaintenanceView, ClustersView
from proxy.routes import Route, active_routes, by_path
from ratelimit.throttling import AuthenticatedThrottle, BlockchainQueryThrottle, ChunkUploadThrottle

LIMITED_BY = (AuthenticatedThrottle, BlockchainQueryThrottle, ChunkUploadThrottle)
THROTTLES = {throttle.tier_name: throttle for throttle in LIMITED_BY}


def view_for(methods: Mapping[str, Route]) -> type[ForwardView]:
    """Return the view class of a path: the rows of its methods, and the throttle of their tier."""
    throttle = THROTTLES[next(iter(methods.values())).tier]
    return type("ForwardView", (ForwardView,), {"routes": methods, "throttle_classes": [throttle]})


def tree(paths: Mapping[str, Mapping[str, Route]]) -> list[URLPattern | URLResolver]:
    """Return the URLs grouped by their first segment, so that a request is matched against a few patterns, not all.

    Recorded rows have their URLs in `sessions_api`.
    """
    branches: dict[str, list[URLPattern]] = {}
    urls: list[URLPattern | URLResolver] = []
    for route, methods in paths.items():
        if any(row.recorded for row in methods.values()):
            continue
        head, slash, rest = route.partition("/")
        if slash:
            branches.setdefault(head, []).append(path(rest, view_for(methods).as_view()))
        else:
            urls.append(path(route, view_for(methods).as_view()))
    return [path(f"{head}/", include(branch)) for head, branch in branches.items()] + urls


urlpatterns = [
    *tree(by_path(active_routes())),
    path("admin/clusters", ClustersView.as_view(), name="admin-clusters"),
    path("admin/clusters/<str:name>/maintenance", ClusterMaintenanceView.as_view(), name="admin-cluster-maintenance"),
]
