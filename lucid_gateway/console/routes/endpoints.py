"""The gateway's own endpoints, read from its URLs and views: who may call them, and which tier counts them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver
from django.views.generic import View

from lucid_gateway.api.permissions import IsSelfOrReadsUsers, SignedIn
from lucid_gateway.policy.routes import ROUTES
from proxy.forwarding.resolving import ForwardedPaths, django_path

ANYONE, ANY_TOKEN = "anyone", "any access token"
OWN_OR_ALL = "user:read for oneself, admin:read for others"
TOKEN_ONLY = "access token only"  # noqa: S105  # not a secret
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
OPERATOR_PAGES = "admin/"
PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclass(frozen=True)
class Endpoint:
    """Methods of a path that the same callers may use. `route` is the path as in the log; `tier` is empty for none."""

    route: str
    methods: tuple[str, ...]
    access: str
    tier: str

    @property
    def path(self) -> str:
        """The path with its parameters as in the route table, such as `/api/v1/users/{user_id}`."""
        return "/" + PARAMETER.sub(r"{\1}", self.route)


@cache
def own_endpoints() -> tuple[Endpoint, ...]:
    """Return the endpoints in the order of their paths, without the operator pages and the forwarded routes."""
    found = [endpoint for path, view in views_of(get_resolver()) for endpoint in endpoints_of(path, view)]
    return tuple(sorted(found, key=lambda endpoint: (endpoint.path, METHODS.index(endpoint.methods[0]))))


def views_of(urls: URLResolver, before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the view class of each URL below the resolver."""
    for url in urls.url_patterns:
        path = f"{before}{url.pattern}"
        if isinstance(url, ForwardedPaths) or path == OPERATOR_PAGES:
            continue
        if isinstance(url, URLResolver):
            yield from views_of(url, path)
        elif isinstance(url, URLPattern):
            view = getattr(url.callback, "view_class", None) or getattr(url.callback, "cls", None)
            if view is not None:
                yield path, view


def endpoints_of(path: str, view: type[View]) -> Iterator[Endpoint]:
    """Yield an endpoint for each group of methods with the same rules."""
    groups: dict[tuple[str, str], list[str]] = {}
    for method in METHODS:
        if hasattr(view, method.lower()) and (path, method) not in forwarded():
            groups.setdefault((access_of(view, method), tier_of(view)), []).append(method)
    for (access, tier), methods in groups.items():
        yield Endpoint(path, tuple(methods), access, tier)


@cache
def forwarded() -> frozenset[tuple[str, str]]:
    """Return the path and method of each row of the route table; a view of our own may serve it."""
    return frozenset((f"api/v1/{django_path(route.path)}", method) for route in ROUTES for method in route.methods)


def access_of(view: type[View], method: str) -> str:
    """Return who may use the method, as a permission or in words."""
    checks = checks_of(view, method)
    if not checks:
        return ANYONE
    if IsSelfOrReadsUsers in checks:
        return OWN_OR_ALL
    permission = getattr(view, "permissions", {}).get(method)
    if permission is None:
        return ANY_TOKEN
    return f"{permission}, {TOKEN_ONLY}" if SignedIn in checks else permission


def checks_of(view: Any, method: str) -> set[type]:
    """Return the permission classes that check the method; some views choose them by the method."""
    if not hasattr(view, "get_permissions"):
        return set()
    instance = view()
    instance.request = SimpleNamespace(method=method)
    return {type(check) for check in instance.get_permissions()}


def tier_of(view: Any) -> str:
    throttles = getattr(view, "throttle_classes", [])
    return throttles[0].tier_name if throttles else ""
