"""The operator pages of the request explorer: the list with its search, and the page of one request."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.admin import AdminSite
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from accounts.models import User
from lucid_gateway.explorer.cases import Case
from lucid_gateway.explorer.conditions import Equal
from lucid_gateway.explorer.decided import lines
from lucid_gateway.explorer.explaining import explain
from lucid_gateway.explorer.left_out import left_out
from lucid_gateway.explorer.looks import audit_of_request, preview_of, requests_of_caller
from lucid_gateway.explorer.models import KeptRequest, key_at
from lucid_gateway.explorer.naming import is_uuid, names_of
from lucid_gateway.explorer.questions import FILTERS, RELATIVE, NotUnderstood, Secret, conditions_of, moment, of_outcome
from lucid_gateway.explorer.searching import Found, Search, find
from lucid_gateway.explorer.shapes import explained
from lucid_gateway.operators.confirmation import operator_of
from lucid_gateway.operators.numbers import duration
from lucid_gateway.policy.clusters import CLUSTERS
from lucid_gateway.policy.reasons import REASONS
from lucid_gateway.server.request_metrics import METHODS

ROWS_A_PAGE = 50
AROUND, AROUND_EACH_WAY = timedelta(minutes=5), 5
MAX_TEXT = 500
TIMES = ("since", "until")
OUTCOME_WORDS = {"refused": "refused by the gateway", "instance_error": "the instance answered 5xx"}
ADDRESS_REASONS = ("address_denied", "address_blocked")
STATUSES = ("4xx", "5xx", "2xx", "3xx", "400", "401", "403", "404", "409", "413", "422", "429", "499", "500", "502",
            "503", "504")  # fmt: skip
PERIODS = (("15m", "15 minutes"), ("1h", "hour"), ("6h", "6 hours"), ("24h", "24 hours"))
LABELS = {
    "q": "Search", "outcome": "Outcome", "status": "Status",
    "error_code": "Error code", "reason": "Reason", "route": "Route", "path": "Path",
    "method": "Method", "cluster": "Cluster", "instance": "Instance", "address": "Address", "network": "Network",
    "user": "User", "key": "API key or token", "since": "Since", "until": "Until",
}  # fmt: skip


@dataclass(frozen=True)
class Chip:
    """An active filter, and the query of the list without it. `moment` is set in place of the value of a time."""

    label: str
    value: str
    without: str
    moment: datetime | None = None


def tone_of(row: KeptRequest) -> str:
    """Return the tone of the pill of a status."""
    return {2: "ok", 4: "warn", 5: "bad"}.get(row.status_class, "")


@dataclass(frozen=True)
class Shown:
    """A row of a list of requests."""

    row: KeptRequest
    case: Case

    @property
    def tone(self) -> str:
        return tone_of(self.row)

    @property
    def sentence(self) -> str:
        """The reason as a sentence."""
        return REASONS[self.row.reason].text if self.row.reason in REASONS else self.reason

    @property
    def reason(self) -> str:
        """Why it was refused, in a few words."""
        if self.row.reason:
            return self.row.reason.replace("_", " ")
        return (
            "sampled" if self.row.is_sample else "answered by the cluster" if self.row.upstream_status else "answered"
        )


def shown(rows: list[KeptRequest]) -> list[Shown]:
    names = names_of(rows)
    return [Shown(row, Case(row, names)) for row in rows]


def requests_page(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Show the search and its rows. The form is sent as POST, so that no text of it is in an address before it was
    checked, and leads to an address that has all filters but no secret.
    """
    if request.method == "POST":
        return answer_search(site, request)
    filters = given(request.GET)
    try:
        found = find(search_of(filters, request.GET.get("before", "")))
    except NotUnderstood as error:
        return list_page(site, request, filters, problem=error)
    return list_page(site, request, filters, found=found)


def answer_search(site: AdminSite, request: HttpRequest) -> HttpResponse:
    """Lead to the list with the filters of the form, or to the request whose id was searched for."""
    filters = given(request.POST)
    try:
        search = search_of(filters)
    except Secret as error:
        return list_page(site, request, {}, problem=error, status=400)
    except NotUnderstood as error:
        return list_page(site, request, filters, problem=error)
    (only, *others) = (*search.conditions, None)
    if isinstance(only, Equal) and only.field == "request_id" and not any(others):
        return HttpResponseRedirect(reverse("admin:request", args=[only.value]))
    return HttpResponseRedirect(f"{reverse('admin:requests')}?{urlencode(without_emails(filters, search))}")


def without_emails(filters: dict[str, str], search: Search) -> dict[str, str]:
    """Return the filters with the id of a user in place of a name: proxies in front may log addresses of pages."""
    names = [name for name in filters if name in FILTERS]
    found = dict(filters)
    for name, condition in zip(names, search.conditions, strict=False):  # those of the outcome follow
        if isinstance(condition, Equal) and condition.field == "user_id":
            del found[name]
            found["user"] = condition.value
    return found


def given(values: Mapping[str, str]) -> dict[str, str]:
    """Return the filters that are not empty."""
    found = {name: values.get(name, "").strip()[:MAX_TEXT] for name in (*FILTERS, "outcome", *TIMES)}
    return {name: text for name, text in found.items() if text}


def search_of(filters: Mapping[str, str], before: str = "") -> Search:
    """Return the search; raise NotUnderstood, or BadRequest for a cursor that is not ours."""
    if before and not is_uuid(before):
        raise BadRequest("before")
    times = {name: moment(filters[name]) for name in TIMES if name in filters}
    conditions = conditions_of({name: text for name, text in filters.items() if name in FILTERS})
    conditions += of_outcome(filters.get("outcome", ""))
    cursor = uuid.UUID(before) if before else None
    return Search(conditions, times.get("since"), times.get("until"), before=cursor, limit=ROWS_A_PAGE)


def list_page(
    site: AdminSite,
    request: HttpRequest,
    filters: dict[str, str],
    *,
    found: Found | None = None,
    problem: NotUnderstood | None = None,
    status: int = 200,
) -> HttpResponse:
    """Return the page of the list, or of a search that was not understood."""
    if isinstance(problem, Secret):
        filters = {}  # a secret must not be shown again
    query = urlencode(filters)
    older = urlencode(filters | {"before": found.next_before}) if found and found.next_before else ""
    context = {
        **site.each_context(request),
        "title": "Requests",
        "found": found,
        "rows": shown(found.rows) if found else [],
        "problem": problem,
        "filters": filters,
        "chips": [chip(filters, name) for name in filters],
        "query": query,
        "older": older,
        "given_since": filters.get("since", "") not in ("", *dict(PERIODS)),
        "is_first": not request.GET.get("before"),
        "choices": {
            "statuses": STATUSES, "reasons": sorted(REASONS), "clusters": sorted(CLUSTERS),
            "methods": sorted(METHODS), "periods": PERIODS, "outcomes": OUTCOME_WORDS.items(),
        },
        "left_out": left_out(),
        "env": settings.ENV,
    }  # fmt: skip
    return TemplateResponse(request, "admin/explorer/requests.html", context, status=status)


def chip(filters: dict[str, str], name: str) -> Chip:
    """Return the chip of a filter, of a user with the email in place of the id."""
    text = filters[name]
    user = User.objects.filter(pk=uuid.UUID(text)).first() if name == "user" and is_uuid(text) else None
    without = urlencode({other: text for other, text in filters.items() if other != name})
    words = OUTCOME_WORDS.get(text, text) if name == "outcome" else text
    at = exact_moment(text) if name in TIMES else None
    return Chip(LABELS[name], user.email if user else words, without, at)


def exact_moment(text: str) -> datetime | None:
    """Return the time that a text names, None for one such as `1h` or one that means nothing."""
    try:
        return None if RELATIVE.fullmatch(text) else moment(text)
    except NotUnderstood:
        return None


def request_page(site: AdminSite, request: HttpRequest, request_id: str) -> HttpResponse:
    """Show one request, as JSON with `?format=json`; of several with this id the latest, or `?row=` its key."""
    rows = KeptRequest.objects.filter(request_id=request_id)
    if is_uuid(request.GET.get("row", "")):
        rows = rows.filter(pk=uuid.UUID(request.GET["row"]))
    row = rows.order_by("-pk").first()
    if row is None:
        return missing_page(site, request, request_id)
    if request.GET.get("format") == "json":
        return JsonResponse(explained(row, operator_of(request)), json_dumps_params={"indent": 2})
    case = Case(row, by=operator_of(request))
    around = shown(requests_around(row))
    of_caller = requests_of_caller(case)
    context = {
        **site.each_context(request),
        "title": f"Request {request_id}",
        "back": request.get_full_path(),
        "row": row,
        "case": case,
        "tone": tone_of(row),
        "explanation": explain(case),
        "address_rule": case.address_rule if row.reason in ADDRESS_REASONS else None,
        "upstream_duration": duration(row.upstream_ms),
        "lines": lines(case),
        "around": around,
        "of_caller": of_caller,
        "looks": [look for look in (preview_of(case), audit_of_request(case)) if look],
    }
    return TemplateResponse(request, "admin/explorer/request.html", context)


def missing_page(site: AdminSite, request: HttpRequest, request_id: str) -> HttpResponse:
    """Say why a request may not be found."""
    context = {
        **site.each_context(request),
        "title": "Request not kept",
        "request_id": request_id[:128],
        "left_out": left_out(),
        "env": settings.ENV,
    }
    return TemplateResponse(request, "admin/explorer/missing.html", context, status=404)


def requests_around(row: KeptRequest) -> list[KeptRequest]:
    """Return the requests of the same caller shortly before and after, newest first: two queries."""
    condition = caller_condition(row)
    if condition is None:
        return []
    rows = KeptRequest.objects.filter(**condition.lookups())
    later = rows.filter(pk__gt=row.pk, pk__lt=key_at(row.started_at + AROUND)).order_by("pk")
    earlier = rows.filter(pk__lt=row.pk, pk__gt=key_at(row.started_at - AROUND)).order_by("-pk")
    return [*reversed(later[:AROUND_EACH_WAY]), *earlier[:AROUND_EACH_WAY]]


def caller_condition(row: KeptRequest) -> Equal | None:
    """Return the condition for the API key, else the user, else the address of a request."""
    by_key = row.credential_kind == "api_key" and row.credential_id
    for field, value in (("credential_id", by_key), ("user_id", row.user_id), ("address_key", row.address_key)):
        if value:
            return Equal(field, value)
    return None
