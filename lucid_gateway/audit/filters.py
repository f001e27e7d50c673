"""The filters of the audit log: groups of kinds, kinds, and times."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from lucid_gateway.audit.kinds import GROUPS, KINDS
from lucid_gateway.audit.models import AuditEvent

Choices = list[tuple[str, str]]
Events = QuerySet[AuditEvent]


def types_of(group: str | None) -> list[str]:
    """Return the kinds whose names begin with the word."""
    return [name for name in KINDS if name.partition(".")[0] == group]


class GroupFilter(admin.SimpleListFilter):
    """Selects the kinds whose names begin with the same word."""

    title, parameter_name = "about", "group"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return list(GROUPS.items())

    def queryset(self, request: HttpRequest, queryset: Events) -> Events:
        return queryset.filter(type__in=types_of(self.value())) if self.value() else queryset


class KindFilter(admin.SimpleListFilter):
    """Selects one kind, of those of the chosen group."""

    title, parameter_name = "event", "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        chosen, group = request.GET.get("type", ""), request.GET.get("group", "")
        offered = types_of(group) if group else [chosen]
        return [(name, KINDS[name].text) for name in offered if name in KINDS]

    def has_output(self) -> bool:
        """Keep the filter in force, whatever it offers."""
        return bool(self.lookup_choices) or self.value() is not None

    def queryset(self, request: HttpRequest, queryset: Events) -> Events:
        return queryset.filter(type=self.value()) if self.value() else queryset


class TimeFilter(admin.DateFieldListFilter):
    """Offers the last hour and some numbers of days."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        now = timezone.now().replace(second=0, microsecond=0)
        periods = {
            "Last hour": timedelta(hours=1), "Last 24 hours": timedelta(days=1), "Last 7 days": timedelta(days=7),
            "Last 30 days": timedelta(days=30),
        }  # fmt: skip
        since = self.lookup_kwarg_since
        presets: list[Any] = [(name, {since: (now - period).isoformat()}) for name, period in periods.items()]
        self.links = (("Any time", {}), *presets)
