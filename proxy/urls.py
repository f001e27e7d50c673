"""One URL for each path of the route table."""

from collections.abc import Mapping

from django.urls import path

from proxy.routes import Route, active_routes, by_path
from proxy.views import ForwardView
from ratelimit.throttling import AuthenticatedThrottle, BlockchainQueryThrottle

THROTTLES = {throttle.tier_name: throttle for throttle in (AuthenticatedThrottle, BlockchainQueryThrottle)}


def view_for(methods: Mapping[str, Route]) -> type[ForwardView]:
    """Return the view class of a path: the rows of its methods, and the throttle of their tier."""
    throttle = THROTTLES[next(iter(methods.values())).tier]
    return type("ForwardView", (ForwardView,), {"routes": methods, "throttle_classes": [throttle]})


urlpatterns = [path(route, view_for(methods).as_view()) for route, methods in by_path(active_routes()).items()]
