"""The page "Routes": the route table as it is in force, with a search, and the gateway's own endpoints."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from django.conf import settings
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from lucid_gateway.console.routes.edge_switch import ALL, EdgeState, edge_state, exclusions
from lucid_gateway.console.routes.endpoints import Endpoint, own_endpoints
from lucid_gateway.operators.links import page
from lucid_gateway.policy.routes import MIB, PARAMETER, ROUTES, Route
from proxy.clusters import configured
from proxy.edge.exclusions import ALL_ROUTES
from proxy.forwarding.resolving import active_routes, django_path
from proxy.models import EdgeExclusion
from ratelimit.tier_table import TierRow, tier_rows

PREFIX = "/api/v1/"
EXAMPLE = "1"  # in place of a parameter, where a path is needed
LONGEST_SEARCH = 200


@dataclass(frozen=True)
class RouteRow:
    """A row of the route table as the page shows it; `edge` is None if no edge is in use."""

    route: Route
    tier: TierRow
    active: bool
    edge: EdgeState | None = None

    @property
    def path(self) -> str:
        return f"{PREFIX}{self.route.path}"

    @property
    def methods(self) -> str:
        return " ".join(self.route.methods)

    @property
    def rewrite(self) -> str:
        """The path at the cluster, empty if it is the same."""
        return "" if self.route.upstream == self.path else self.route.upstream

    @property
    def timeouts(self) -> str:
        times = self.route.timeouts
        return f"{times.connect:g} / {times.read:g} / {times.total:g} s"

    @property
    def body_limit(self) -> str:
        return f"{self.route.body_limit // MIB} MiB"

    @property
    def attempts(self) -> str:
        return f"{self.route.attempts} attempts" if self.route.attempts > 1 else "1 attempt"

    @property
    def extras(self) -> list[str]:
        """What else the route does, in words."""
        cache = self.route.cache
        seconds = "by Cache-Control" if cache is None or cache.seconds is None else f"{cache.seconds:g} s"
        callers = "for all callers" if cache is not None and cache.shared else "for each caller"
        found = {
            "Idempotency-Key": self.route.idempotency_key,
            f"cached {seconds}, {callers}": cache is not None,
            "recorded as a chunk": self.route.recorded,
            "WebSocket at the edge": self.route.websocket and bool(settings.ENV.EDGE_SECRET),
        }
        return [words for words, applies in found.items() if applies]

    @property
    def requests_url(self) -> str:
        return page("requests", route=f"api/v1/{django_path(self.route.path)}")

    @property
    def preview_url(self) -> str:
        return page("preview", method=self.route.methods[0], path=PARAMETER.sub(EXAMPLE, self.path))

    def matches(self, words: str) -> bool:
        """Return whether the row has the lower-case text."""
        route = self.route
        text = " ".join((self.path, self.methods, route.cluster, route.upstream, route.permission, route.tier))
        more = [*self.extras, self.edge.words] if self.edge else self.extras
        return words in f"{text} {' '.join(more)}".lower()


@dataclass(frozen=True)
class EndpointRow:
    """An endpoint of the gateway itself; `tier` is None if no limit counts it."""

    endpoint: Endpoint
    tier: TierRow | None

    @property
    def methods(self) -> str:
        return " ".join(self.endpoint.methods)

    @property
    def requests_url(self) -> str:
        return page("requests", route=self.endpoint.route)

    def matches(self, words: str) -> bool:
        endpoint = self.endpoint
        return words in f"{endpoint.path} {self.methods} {endpoint.access} {endpoint.tier}".lower()


def routes_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Show the rows that have the search `q`, of one `cluster` or of all."""
    words, cluster = request.GET.get("q", "").strip()[:LONGEST_SEARCH], request.GET.get("cluster", "")
    tiers, searched, off = {row.name: row for row in tier_rows()}, words.lower(), exclusions()
    routes = [row for row in route_rows(ROUTES, tiers, off) if row.matches(searched)]
    endpoints = [EndpointRow(endpoint, tiers.get(endpoint.tier)) for endpoint in own_endpoints()]
    context = {
        **site.each_context(request),
        "title": "Routes",
        "query": words,
        "cluster": cluster,
        "clusters": dict.fromkeys(route.cluster for route in ROUTES),
        "routes": [row for row in routes if cluster in ("", row.route.cluster)],
        "endpoints": [row for row in endpoints if row.matches(searched)] if not cluster else [],
        "has_edge": off is not None,
        "all_off": off.get(ALL_ROUTES) if off else None,
        "all": ALL,
    }
    return TemplateResponse(request, "admin/routes.html", context)


def route_rows(
    routes: Iterable[Route], tiers: Mapping[str, TierRow], off: Mapping[str, EdgeExclusion] | None = None
) -> list[RouteRow]:
    """Return the rows; `off` is what is off the edge, None if no edge is in use."""
    served = set(active_routes())
    return [
        RouteRow(
            route, tiers[route.tier], active=route in served and route.cluster in configured(),
            edge=None if off is None else edge_state(route, off),
        )
        for route in routes
    ]  # fmt: skip
