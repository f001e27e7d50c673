"""The first page of the console: is all well, what was refused and why, and who causes it.

The page and the JSON with which it refreshes itself are made of the same parts.
"""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.db import Error as DatabaseProblem
from django.http import HttpRequest, JsonResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.views.decorators.http import require_safe

from lucid_gateway.console import health_strip
from lucid_gateway.console.alarms.finding import KINDS, shown_alarms
from lucid_gateway.console.figure_cards import cards_of
from lucid_gateway.console.menu import counts
from lucid_gateway.console.offenders import distinct, offenders_in, with_names
from lucid_gateway.console.plots import plots_of
from lucid_gateway.console.refusals import reasons_of, routes_of
from lucid_gateway.figures.gateways import LIVING_SECONDS
from lucid_gateway.figures.reading import HOUR, PERIODS, Figures, Period, read_figures
from lucid_gateway.operators.links import page, requests_page, time_of
from lucid_gateway.operators.numbers import counted

MOST_BANNERS, MOST_ROWS, MOST_OFFENDERS = 3, 8, 7
# The parts of the page that refresh themselves -> their templates.
PARTS = {
    part: f"admin/overview/{part}.html"
    for part in ("state", "alarms", "health", "cards", "reasons", "offenders", "routes")
} | {"strip": "admin/includes/strip.html"}
# Without the database there are only these; the page keeps the figures that it has.
WITHOUT_FIGURES = ("state", "alarms", "health", "strip")


def period_of(request: HttpRequest) -> Period:
    """Return the period that the query names, the last hour without one."""
    return PERIODS.get(request.GET.get("period", ""), HOUR)


def overview(request: HttpRequest, extra_context: Mapping[str, Any] | None = None) -> TemplateResponse:
    """Show the page, which works without a script, too."""
    period = period_of(request)
    context = {
        **admin.site.each_context(request),
        "title": "Overview",
        "period": period,
        "periods": PERIODS.values(),
        **facts_of(period),
        **(extra_context or {}),
    }
    return TemplateResponse(request, "admin/overview/page.html", context)


@require_safe
def overview_json(request: HttpRequest) -> JsonResponse:
    """Answer with everything that the page shows: the HTML of its parts by their ids, and the values of its plots."""
    period = period_of(request)
    facts = facts_of(period) | {"strip": health_strip.items()}
    names = WITHOUT_FIGURES if "failed" in facts else PARTS
    parts = {part: render_to_string(PARTS[part], facts) for part in names}
    plots = [plot.data() for plot in facts["plots"]]
    return JsonResponse({"period": period.name, "parts": parts, "plots": plots, "counts": counts()})


def alarms_page(request: HttpRequest) -> TemplateResponse:
    """Show all open alarms, and what the gateway watches."""
    alarms = shown_alarms()
    context = {**admin.site.each_context(request), "title": "Alarms", "alarms": alarms, "kinds": KINDS}
    return TemplateResponse(request, "admin/alarms.html", context)


@require_safe
def alarms_json(request: HttpRequest) -> JsonResponse:
    """Answer with the HTML of the open alarms and of the strip."""
    alarms = render_to_string("admin/overview/all_alarms.html", {"alarms": shown_alarms()})
    strip = render_to_string(PARTS["strip"], {"strip": health_strip.items()})
    return JsonResponse({"parts": {"open-alarms": alarms, "strip": strip}, "counts": counts()})


def facts_of(period: Period, now: float | None = None) -> dict[str, Any]:
    """Return what the templates show. Without the database there are no figures, and the page says so."""
    now = time.time() if now is None else now
    alarms = shown_alarms()
    facts = {
        "alarms": alarms[:MOST_BANNERS],
        "more_alarms": len(alarms) - MOST_BANNERS,
        "health": health_strip.details(),
        "period": period,
    }
    try:
        return facts | figures_of(read_figures(period, now), now)
    except DatabaseProblem:
        return facts | {"state": "The database does not answer, so there are no figures.", "plots": [], "failed": True}


def figures_of(figures: Figures, now: float) -> dict[str, Any]:
    since = time_of(figures.total.start)
    offenders = offenders_in(figures.total.groups, since)
    return {
        "state": state_of(figures, now),
        "up_to": datetime.fromtimestamp(min(figures.up_to, now), UTC) if figures.up_to else None,
        "is_stale": is_stale(figures, now),
        "cards": cards_of(figures),
        "plots": plots_of(figures),
        "reasons": reasons_of(figures.total, offenders, since, MOST_ROWS),
        "offenders": with_names(distinct(offenders, MOST_OFFENDERS)),
        "routes": routes_of(figures.total, since)[:MOST_ROWS],
        "refused_url": requests_page(outcome="refused", since=since),
        "alarms_url": page("alarms"),
    }


def is_stale(figures: Figures, now: float) -> bool:
    return figures.up_to is None or now - figures.up_to > LIVING_SECONDS


def state_of(figures: Figures, now: float) -> str:
    """Return how old the figures are and whose they are, in words."""
    living = sum(gateway.is_living(now) for gateway in figures.gateways)
    if figures.up_to is None:
        return "No gateway has written figures in the last ten minutes."
    if is_stale(figures, now):
        return f"Figures are {now - figures.up_to:.0f} s old: no gateway has written newer ones."
    return f"{figures.period.words} · {counted(living, 'gateway')}"
