"""The operator page for clusters: what is up, what is out of service, and how to take something out or back in."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from lucid_gateway.operators.confirmation import ReadOnlyAdmin, ask, counted, operator_of
from proxy.clusters import configured
from proxy.models import Maintenance, MaintenanceQuerySet
from proxy.operators.closing import close_cluster, end_maintenance
from proxy.operators.overview import clusters

WARNING = "These get requests again, within seconds, unless something else keeps them closed."


def targets() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what can be taken out of service, as grouped choices: each cluster, and each of its instances."""
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
            "kind": "Both send nothing new and let finish what is under way. Maintenance also stops health checks.",
            "starts_at": "UTC. Empty: now.",
            "ends_at": "UTC. Empty: until somebody ends it.",
            "reason": "For the audit log and the operators who come after.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["starts_at"].required = False
        self.fields["starts_at"].initial = None
        self.initial.pop("starts_at", None)

    def clean(self) -> dict[str, Any]:
        """Take the target apart."""
        data = super().clean() or self.cleaned_data
        self.instance.cluster, _, self.instance.instance = data.get("target", "").partition(" ")
        return data


class TimeFilter(admin.SimpleListFilter):
    """Whether it is in force, to come, or over."""

    title, parameter_name = "time", "time"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [("in_force", "In force"), ("coming", "To come"), ("over", "Over")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Maintenance]) -> QuerySet[Maintenance]:
        """Return the rows of that choice."""
        assert isinstance(queryset, MaintenanceQuerySet)
        reads = {"in_force": queryset.in_force, "coming": queryset.coming, "over": queryset.over}
        return reads[value]() if (value := self.value()) in reads else queryset


@admin.register(Maintenance)
class MaintenanceAdmin(ReadOnlyAdmin):
    """What is out of service, below a table of all clusters; rows are ended, and neither changed nor deleted."""

    list_display = ("what", "when", "starts_at", "until", "reason")
    list_filter = (TimeFilter, "kind", "cluster", "starts_at")
    sortable_by = ("starts_at",)
    search_fields = ("cluster", "instance", "reason")
    actions = ("end",)
    change_list_template = "admin/proxy/clusters.html"

    @admin.display(description="What")
    def what(self, row: Maintenance) -> str:
        """Return kind and target."""
        return f"{row.get_kind_display()} of {row.target}"

    @admin.display(description="Until")
    def until(self, row: Maintenance) -> datetime | None:
        """Return when it was ended, or will end."""
        return row.ended_at or row.ends_at

    @admin.display(description="State")
    def when(self, row: Maintenance) -> str:
        """Return the state in words."""
        return {"in_force": "In force", "coming": "To come", "over": "Over"}[row.state]

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return whether the operator is staff."""
        return self.has_operate_permission(request)

    def get_form(
        self, request: HttpRequest, obj: Maintenance | None = None, change: bool = False, **kwargs: Any
    ) -> Any:
        """Return our form for a new row alone: one that is there is only shown."""
        form = MaintenanceForm if obj is None else forms.ModelForm
        return super().get_form(request, obj, change, **{"form": form} | kwargs)

    def get_fields(self, request: HttpRequest, obj: Maintenance | None = None) -> tuple[str, ...]:
        """Show the form for a new row, and all that is known of one that is there."""
        if obj is None:
            return MaintenanceForm.Meta.fields
        return (
            "cluster", "instance", "kind", "reason", "starts_at", "ends_at", "created_by", "created_at", "ended_at",
            "ended_by",
        )  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: Maintenance | None = None) -> tuple[str, ...]:
        """Keep what is there as it is."""
        return () if obj is None else self.get_fields(request, obj)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show all clusters, then what was taken out of service."""
        found, known = clusters()
        return super().changelist_view(request, {"title": "Clusters", "clusters": found, "known": known})

    def save_model(self, request: HttpRequest, obj: Maintenance, form: Any, change: bool) -> None:
        """Take the cluster or the instance out of service."""
        row = close_cluster(
            cluster=obj.cluster, instance=obj.instance, kind=obj.kind, reason=obj.reason, starts_at=obj.starts_at,
            ends_at=obj.ends_at, by=operator_of(request),
        )  # fmt: skip
        obj.pk = row.pk

    @admin.action(description="End the selected maintenance now", permissions=["operate"])
    def end(self, request: HttpRequest, queryset: QuerySet[Maintenance]) -> HttpResponseBase | None:
        """End each, what is to come, too."""
        rows = [row for row in queryset if row.state != "over"]
        if not rows:
            self.message_user(request, "None of the selected is in force or to come.", messages.WARNING)
            return None
        data, page = ask(self, request, rows, title="End maintenance", warning=WARNING)
        if data is None:
            return page
        ended = sum(end_maintenance(row, by=operator_of(request)) for row in rows)
        self.message_user(request, f"{counted(ended, 'maintenance window')} ended.", messages.SUCCESS)
        return None
