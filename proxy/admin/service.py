"""The parts of the clusters page: what the instances do now, and the buttons that take them out of service."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from lucid_gateway.operators.confirmation import ReadOnlyAdmin, ask, operator_of, reason_field
from lucid_gateway.operators.links import requests_page
from proxy.clusters import Cluster, configured, find_instance
from proxy.models import Maintenance
from proxy.operators.closing import close_cluster, end_maintenance
from proxy.operators.last_hour import LastHour, last_hour
from proxy.operators.last_serving import left_serving
from proxy.operators.notices import named, what_callers_notice
from proxy.operators.overview import ClusterView, InstanceView, clusters

if TYPE_CHECKING:
    Base = ReadOnlyAdmin
else:
    Base = object

LIST = "admin:proxy_maintenance_changelist"
TONES = {"up": "ok", "down": "bad", "unknown": ""}
DURATIONS = {"15": "15 minutes", "60": "1 hour", "240": "4 hours", "": "Until somebody puts it back"}
KINDS = {
    "drain": "Drain: health checks go on. For a restart without failed requests.",
    "maintenance": "Maintenance: no health checks and no alarm. For an instance that will be down.",
}
REDIS_UNAVAILABLE = "Redis is unavailable"


class ClosingForm(forms.Form):
    """How, for how long and why an instance or a cluster is taken out of service."""

    kind = forms.ChoiceField(choices=list(KINDS.items()), initial="drain", widget=forms.RadioSelect, label="How")
    minutes = forms.ChoiceField(
        choices=list(DURATIONS.items()), initial="", required=False, widget=forms.RadioSelect, label="For how long"
    )
    reason = reason_field()


@dataclass(frozen=True)
class InstanceRow:
    """An instance as a row of the page. `hour` is None if nothing was counted for it; `put_back` says whether it is out
    of service alone, and not only with its whole cluster.
    """

    view: InstanceView
    target: str
    hour: LastHour | None
    put_back: bool

    @property
    def tone(self) -> str:
        return TONES.get(self.view.condition, "warn")

    @property
    def requests_url(self) -> str:
        return requests_page(instance=self.view.url)

    @property
    def errors_url(self) -> str:
        return requests_page(instance=self.view.url, status="5xx")


@dataclass(frozen=True)
class ClusterCard:
    """A cluster as a card of the page. `notice` says what its callers notice; `put_back` whether it is closed whole."""

    view: ClusterView
    rows: list[InstanceRow]
    notice: str
    put_back: bool


def cards() -> dict[str, Any]:
    """Return what the page shows of the clusters: the cards, and which of their sources are available."""
    found, redis_answers = clusters()
    hours = last_hour()
    return {
        "cards": [card_of(cluster, hours or {}) for cluster in found],
        "reports_known": redis_answers,
        "figures_known": hours is not None,
    }


def card_of(cluster: ClusterView, hours: Mapping[tuple[str, str], LastHour]) -> ClusterCard:
    closed = {row.instance for row in cluster.maintenance if row.state == "in_force"}
    rows = [
        InstanceRow(view, f"{cluster.name} {view.url}", hours.get((cluster.name, view.url)), view.url in closed)
        for view in cluster.instances
    ]
    return ClusterCard(cluster, rows, what_callers_notice(cluster), "" in closed)


def target_of(text: str) -> tuple[Cluster, str] | None:
    """Return the cluster and the address of an instance, or an empty one for all of it; None if there is none such."""
    name, _, address = text.partition(" ")
    cluster = configured().get(name)
    if cluster is None:
        return None
    instance = find_instance(cluster, address) if address else None
    if address and instance is None:
        return None
    return cluster, instance.url if instance else ""


class ServicePages(Base):
    """The pages and the endpoint that belong to the cards: a mixin for the ModelAdmin of maintenance."""

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("now.json", self.admin_site.admin_view(self.now), name="clusters_now"),
            path("close/", self.admin_site.admin_view(self.close), name="clusters_close"),
            path("open/", self.admin_site.admin_view(self.open), name="clusters_open"),
        ]
        return [*own, *super().get_urls()]

    def now(self, request: HttpRequest) -> JsonResponse:
        """Return the cards as HTML; `problem` says why they are not current, and is empty if they are."""
        context = cards()
        problem = "" if context["reports_known"] else REDIS_UNAVAILABLE
        html = render_to_string("admin/proxy/cluster_cards.html", context, request)
        return JsonResponse({"parts": {"cluster-cards": html}, "problem": problem})

    def close(self, request: HttpRequest) -> HttpResponseBase:
        """Ask how, for how long and why, then take a cluster or an instance out of service."""
        target = target_of(request.GET.get("target", ""))
        if target is None:
            self.message_user(request, "There is no such cluster or instance.", messages.ERROR)
            return HttpResponseRedirect(reverse(LIST))
        cluster, instance = target
        ends_at = end_after(request.POST.get("minutes", ""))
        row = Maintenance(cluster=cluster.name, instance=instance, ends_at=ends_at)
        title, warning = closing_question(row)
        data, page = ask(
            self, request, None, action="close", about=[row], form=ClosingForm, title=title, warning=warning
        )
        if data is None:
            assert page is not None
            return page
        close_cluster(
            cluster=cluster.name, instance=instance, kind=data["kind"], reason=data["reason"], ends_at=ends_at,
            by=operator_of(request),
        )  # fmt: skip
        self.message_user(request, f"{instance or cluster.name} is out of service.", messages.SUCCESS)
        return HttpResponseRedirect(reverse(LIST))

    def open(self, request: HttpRequest) -> HttpResponse:
        """End the maintenance with the id `row`, or that of `target` that is in force, and say so."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        rows = rows_to_end(request.POST.get("row", ""), request.POST.get("target", ""))
        ended = [row.target for row in rows if end_maintenance(row, by=operator_of(request))]
        if ended:
            name = ended[0].rpartition(" ")[2]
            text = f"{name} gets requests again within seconds, unless other maintenance is in force."
            self.message_user(request, text, messages.SUCCESS)
        else:
            self.message_user(request, "This maintenance has already ended.", messages.WARNING)
        return HttpResponseRedirect(reverse(LIST))


def end_after(minutes: str) -> datetime | None:
    """Return the end of maintenance that begins now, None if it has no end; a choice that the form refuses is none."""
    return timezone.now() + timedelta(minutes=int(minutes)) if minutes and minutes in DURATIONS else None


def rows_to_end(key: str, text: str) -> list[Maintenance]:
    """Return the row with the key or, without one, those in force of the cluster or instance that the text names."""
    if key:
        try:
            return list(Maintenance.objects.not_over().filter(pk=uuid.UUID(key)))
        except ValueError:
            return []
    cluster, _, instance = text.partition(" ")
    return list(Maintenance.objects.in_force().filter(cluster=cluster, instance=instance))


def leaves_none(rows: Sequence[Maintenance]) -> bool:
    """Return whether maintenance would close a whole cluster, alone or with what overlaps it."""
    return any(not left_serving(row) for row in rows)


def closing_question(row: Maintenance) -> tuple[str, str]:
    """Return the title and the warning of the question about new maintenance."""
    if not row.instance:
        warning = f"All requests to {row.cluster} get 503 while it is closed. Requests in progress finish."
        return f"Close the whole cluster {row.cluster}", warning
    others = left_serving(row)
    if others:
        effect = f"Callers of {row.cluster} are served by {named(others)}."
    else:
        then = " then" if row.state == "coming" else ""
        effect = f"No other instance of {row.cluster} is up{then}: callers get 503."
    warning = f"{row.instance} gets no new requests; requests in progress finish. {effect}"
    return "Take the instance out of service", warning
