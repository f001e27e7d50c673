"""The filters of the audit log: groups of kinds, kinds, and times."""

from datetime import UTC, datetime, timedelta
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
    """Selects one kind, of those of the chosen group. A link may name several, with commas between them."""

    title, parameter_name = "event", "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        chosen, group = request.GET.get("type", ""), request.GET.get("group", "")
        offered = types_of(group) if group and "," not in chosen else [chosen]
        return [(names, words_of(names)) for names in offered if words_of(names)]

    def has_output(self) -> bool:
        """Keep the filter in force, whatever it offers."""
        return bool(self.lookup_choices) or self.value() is not None

    def queryset(self, request: HttpRequest, queryset: Events) -> Events:
        kinds = (self.value() or "").split(",")
        if len(kinds) > 1:
            return queryset.filter(type__in=kinds)
        return queryset.filter(type=kinds[0]) if kinds[0] else queryset


def words_of(names: str) -> str:
    """Return the sentences of kinds with commas between them, without those that do not exist."""
    return " · ".join(KINDS[name].text for name in names.split(",") if name in KINDS)


class TimeFilter(admin.DateFieldListFilter):
    """Offers the last hour, some numbers of days, and the time that a link has set."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        now = timezone.now().replace(second=0, microsecond=0)
        periods = {
            "Last hour": timedelta(hours=1), "Last 24 hours": timedelta(days=1), "Last 7 days": timedelta(days=7),
            "Last 30 days": timedelta(days=30),
        }  # fmt: skip
        since = self.lookup_kwarg_since
        presets: list[Any] = [(name, {since: (now - period).isoformat()}) for name, period in periods.items()]
        given = self.date_params.get(since)
        if given and given not in [preset[since] for _, preset in presets]:
            presets.append((since_words(given), dict(self.date_params)))
        self.links = (("Any time", {}), *presets)


def since_words(text: str) -> str:
    """Return the time of a link in words, in UTC; a text that is no time has none."""
    try:
        return f"Since {datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return "Since another time"
