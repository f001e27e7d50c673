"""The switch of the page "Routes": what is off the edge, and the pages that take a route, or all, off it and back."""

from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_POST

from lucid_gateway.operators.confirmation import CONFIRMED, Question, answer_to, operator_of
from lucid_gateway.operators.links import page
from lucid_gateway.policy.routes import Route
from proxy.edge.exclusions import ALL_ROUTES, edge_routes
from proxy.models import EdgeExclusion
from proxy.operators.switching import put_back_on_edge, subject_of, take_off_edge

ALL = "all"  # stands for all routes in addresses and forms
NO_SUCH_ROUTE = "No edge is in use, or it serves no such route."


@dataclass(frozen=True)
class EdgeState:
    """Whether the edge serves a route. `own` says since when and why operators took the route itself off."""

    words: str
    tone: str
    own: EdgeExclusion | None = None
    take_off_url: str = ""


def exclusions() -> dict[str, EdgeExclusion] | None:
    """Return what is off the edge by its path, None if there is no edge; raise django.db.Error."""
    return {row.path: row for row in EdgeExclusion.objects.all()} if settings.ENV.EDGE_SECRET else None


def edge_state(route: Route, off: Mapping[str, EdgeExclusion]) -> EdgeState:
    if not route.edge:
        return EdgeState("not for the edge", "")
    own = off.get(route.path)
    if own is not None or ALL_ROUTES in off:
        return EdgeState("gateway only", "warn", own)
    return EdgeState("at the edge", "ok", take_off_url=page("edge_off", route=route.path))


def path_of(text: str) -> str | None:
    """Return the path that a form or an address names, empty for all routes; None if the edge serves no such route."""
    path = ALL_ROUTES if text == ALL else text
    return path if settings.ENV.EDGE_SECRET and text and edge_routes(path) else None


def named(path: str) -> str:
    return subject_of(path) if path else "Every route"


def take_off_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Ask why, then take the `route` of the query off the edge, or all. All is dangerous: it may be too much for the
    gateway.
    """
    path = path_of(request.GET.get("route", ""))
    if path is None:
        messages.error(request, NO_SUCH_ROUTE)
        return HttpResponseRedirect(reverse("admin:routes"))
    question = question_about(path)
    data, filled = answer_to(site, request, question)
    if data is None:
        context = {
            **site.each_context(request),
            "title": question.title,
            "warning": question.warning,
            "dangerous": question.dangerous,
            "form": filled,
            "back": reverse("admin:routes"),
            "confirmed": CONFIRMED,
        }
        return TemplateResponse(request, "admin/confirm_action.html", context)
    if take_off_edge(path=path, reason=data["reason"], by=operator_of(request)):
        messages.success(request, f"{named(path)} is served by the gateway only, within two seconds.")
    else:
        messages.warning(request, f"{named(path)} was off the edge already.")
    return HttpResponseRedirect(reverse("admin:routes"))


def question_about(path: str) -> Question:
    """Return what the operator must confirm before the route, or every route, is served by the gateway only."""
    cost = "The gateway needs many times the processor time of the edge for a request."
    if not path:
        return Question(
            "Take all routes off the edge",
            f"The gateway serves all requests within two seconds. {cost} Make sure that it has enough workers: if not,"
            " callers wait or get 503.",
            reason=True, dangerous=True,
        )  # fmt: skip
    methods = " ".join(dict.fromkeys(method for route in edge_routes(path) for method in route.methods))
    return Question(
        "Take the route off the edge",
        f"The gateway serves {methods} {subject_of(path)} within two seconds. {cost}",
        reason=True,
    )


@require_POST
def put_back(request: HttpRequest) -> HttpResponse:
    """Put the `route` of the form back on the edge, or end that all are off it, and say so."""
    path = path_of(request.POST.get("route", ""))
    if path is None:
        messages.error(request, NO_SUCH_ROUTE)
    elif put_back_on_edge(path=path, by=operator_of(request)):
        messages.success(request, f"{named(path)} is at the edge again within two seconds, unless it is off otherwise.")
    else:
        messages.warning(request, f"{named(path)} was not off the edge.")
    return HttpResponseRedirect(reverse("admin:routes"))
