"""The operator page for clusters: their state and maintenance, with forms to start and end maintenance."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from lucid_gateway.operators.confirmation import AsksBeforeSaving, Question, ReadOnlyAdmin, ask, operator_of
from lucid_gateway.operators.danger import Danger, several
from lucid_gateway.operators.numbers import counted
from proxy.admin.service import ServicePages, cards, closing_question, leaves_none
from proxy.clusters import configured
from proxy.models import Maintenance, MaintenanceQuerySet
from proxy.operators.closing import close_cluster, end_maintenance

WARNING = "These get requests again within seconds, unless other maintenance keeps them closed."
STATE_LABELS = {"in_force": "In force", "coming": "Scheduled", "over": "Ended"}


def targets() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the choices of the form, grouped by cluster: the whole cluster, then each of its instances."""
    return [
        (
            cluster.name,
            [(f"{cluster.name} ", f"{cluster.name}, the whole cluster")]
            + [(f"{cluster.name} {instance.url}", f"{cluster.name} {instance.url}") for instance in cluster.instances],
        )
        for cluster in configured().values()
    ]


class MaintenanceForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable at run time
    """Takes a cluster or an instance out of service."""

    target = forms.ChoiceField(choices=targets, label="What")

    class Meta:
        model = Maintenance
        fields = ("target", "kind", "starts_at", "ends_at", "reason")
        help_texts = {
            "kind": "Both stop new requests and let those in progress finish. Maintenance also stops health checks.",
            "starts_at": "UTC. Empty: now.",
            "ends_at": "UTC. Empty: until an operator ends it.",
            "reason": "For the audit log and for other operators.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["starts_at"].required = False
        self.fields["starts_at"].initial = None
        self.initial.pop("starts_at", None)

    def clean(self) -> dict[str, Any]:
        """Split the target into cluster and instance."""
        data = super().clean() or self.cleaned_data
        self.instance.cluster, _, self.instance.instance = data.get("target", "").partition(" ")
        return data


class TimeFilter(admin.SimpleListFilter):
    """Filters by state: in force, scheduled, or ended."""

    title, parameter_name = "time", "time"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(STATE_LABELS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Maintenance]) -> QuerySet[Maintenance]:
        assert isinstance(queryset, MaintenanceQuerySet)
        filters = {"in_force": queryset.in_force, "coming": queryset.coming, "over": queryset.over}
        return filters[value]() if (value := self.value()) in filters else queryset


@admin.register(Maintenance)
class MaintenanceAdmin(ServicePages, AsksBeforeSaving, ReadOnlyAdmin):
    """All maintenance, below a card for each cluster; rows can be ended, but neither changed nor deleted."""

    list_display = ("what", "when", "starts_at", "until", "reason")
    list_filter = (TimeFilter, "kind", "cluster", "starts_at")
    sortable_by = ("starts_at",)
    search_fields = ("cluster", "instance", "reason")
    actions = ("end",)
    row_actions: ClassVar[Mapping[str, str]] = {"end": "End…"}
    dangerous_actions: ClassVar[Mapping[str, Danger]] = {"save": leaves_none, "close": leaves_none, "end": several}
    pills: ClassVar[Mapping[str, Mapping[Any, str]]] = {"when": {"In force": "warn"}}
    change_list_template = "admin/proxy/clusters.html"

    def row_action_applies(self, action: str, row: Maintenance) -> bool:
        return row.state != "over"

    @admin.display(description="What")
    def what(self, row: Maintenance) -> str:
        return f"{row.get_kind_display()} of {row.target}"

    @admin.display(description="Until")
    def until(self, row: Maintenance) -> datetime | None:
        return row.ended_at or row.ends_at

    @admin.display(description="State")
    def when(self, row: Maintenance) -> str:
        return STATE_LABELS[row.state]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_operate_permission(request)

    def get_form(
        self, request: HttpRequest, obj: Maintenance | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Return the form for a new row; an existing row is read-only and gets a plain one."""
        form = MaintenanceForm if obj is None else forms.ModelForm
        return super().get_form(request, obj, change, **{"form": form} | kwargs)

    def get_fields(self, request: HttpRequest, obj: Maintenance | None = None) -> tuple[str, ...]:
        """Return the form's fields for a new row, and all fields of an existing one."""
        if obj is None:
            return MaintenanceForm.Meta.fields
        return (
            "cluster", "instance", "kind", "reason", "starts_at", "ends_at", "created_by", "created_at", "ended_at",
            "ended_by",
        )  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: Maintenance | None = None) -> tuple[str, ...]:
        return () if obj is None else self.get_fields(request, obj)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Add the cards of all clusters to the page."""
        return super().changelist_view(request, {"title": "Clusters", **cards()})

    def question_about(self, request: HttpRequest, form: "forms.ModelForm[Maintenance]") -> Question | None:
        """Ask before a whole cluster is closed, or the instance that serves its callers last at some time."""
        row = form.instance
        return Question(*closing_question(row), dangerous=True) if self.is_dangerous("save", [row]) else None

    def save_model(self, request: HttpRequest, obj: Maintenance, form: Any, change: bool) -> None:
        row = close_cluster(
            cluster=obj.cluster, instance=obj.instance, kind=obj.kind, reason=obj.reason, starts_at=obj.starts_at,
            ends_at=obj.ends_at, by=operator_of(request),
        )  # fmt: skip
        obj.pk = row.pk

    @admin.action(description="End the selected maintenance now", permissions=["operate"])
    def end(self, request: HttpRequest, queryset: QuerySet[Maintenance]) -> HttpResponseBase | None:
        """End each maintenance that is in force or scheduled, after a confirmation."""
        rows = [row for row in queryset if row.state != "over"]
        if not rows:
            self.message_user(request, "All of the selected maintenance has already ended.", messages.WARNING)
            return None
        data, page = ask(self, request, rows, action="end", title="End maintenance", warning=WARNING)
        if data is None:
            return page
        ended = sum(end_maintenance(row, by=operator_of(request)) for row in rows)
        self.message_user(request, f"{counted(ended, 'maintenance window')} ended.", messages.SUCCESS)
        return None
