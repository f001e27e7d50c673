"""The addresses of all pages: those of the table of pages, and of each list with its filters, sorts and searches."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.test import Client
from django.urls import reverse

from accounts.models import SigningKey
from lucid_gateway.console.tests.pages import PAGES, address
from lucid_gateway.console.tests.scale.rows import DOMAINS, LONG_COMPLETED, LONG_SESSION, NAMES, OLD_ATTACK, key, mixed
from lucid_gateway.explorer.models import KeptRequest
from proxy.models import Maintenance
from ratelimit.models import AddressRule, LimitRule

# A download reads the whole table. The page of a request follows with one that exists.
LEFT_OUT = {"audit/auditevent/export/<str:form>/", "requests/<str:request_id>/"}
SOMEBODY = f"{NAMES[1]}-1"
TOKEN = f"{mixed(1):08x}{1:024x}"
SEARCHES = (
    NAMES[0], SOMEBODY, f"{SOMEBODY}@{DOMAINS[1]}", "Family42", str(key(1)), str(key(123_456_789)), "203.0.113.7",
    OLD_ATTACK, "203.0.0.0/16", "10.1.2.0/24", "10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "login.", "login.failed",
    "nobody-has-this-name", "k00000000001", TOKEN, "Support call 1", "policy 7", "laptop",
)  # fmt: skip
# Conditions of links to lists, which are no filters there.
LINKED: dict[str, tuple[str, ...]] = {
    "audit_auditevent": ("type=login.failed", "type=login.blocked", f"actor__exact={key(1)}", f"actor__exact={key(0)}"),
    **dict.fromkeys(
        ("accounts_issuedtoken", "accounts_signin", "accounts_apikey", "sessions_api_session", "sessions_api_manifest",
         "sessions_api_trustpolicy"),
        (f"user__user_id__exact={key(1)}",),
    ),
}  # fmt: skip
REQUEST_FILTERS: dict[str, tuple[str, ...]] = {
    "q": (str(key(1)), SOMEBODY, "unknown-request-id"), "status": ("4xx", "504", "418"), "error_code": ("3001",),
    "reason": ("tier_exhausted",), "route": ("api/v1/rare/<str:number>",),
    "path": ("/api", "/api/v1/rare/7", "/nowhere"), "method": ("GET", "DELETE"), "cluster": ("blockchain_core",),
    "instance": ("http://blockchain_core:1",), "address": ("203.0.113.7",),
    "network": (OLD_ATTACK, "203.0.113.64/26", "203.0.0.0/16", "10.0.0.0/8", "192.0.2.0/24"), "user": (str(key(1)),),
    "key": (f"{1:032x}",), "since": ("1h", "24h"),
}  # fmt: skip


def all_pages(client: Client) -> Iterator[str]:
    """Yield the address of each page and list, once."""
    found: dict[str, None] = {}
    for page in (*plain_pages(), *request_lists()):
        found[page] = None
    for model in admin.site._registry:
        found |= dict.fromkeys(lists_of(client, model))
    yield from found


def plain_pages() -> Iterator[str]:
    """Yield the pages that show one row, or none."""
    rows = keys()
    for pattern, page in PAGES.items():
        if page.super_admin == 200 and pattern not in LEFT_OUT:
            yield address(pattern, rows)
    request = KeptRequest.objects.values_list("request_id", flat=True)[1]
    yield f"/admin/requests/{request}/"
    for number in (LONG_SESSION, LONG_COMPLETED):
        session = reverse("admin:sessions_api_session_change", args=[key(number)])
        yield from (session, f"{session}?from=150000")
    yield from (f"{page}?period=24h" for page in ("/admin/", "/admin/overview.json"))
    yield from (f"/admin/search/?{urlencode({'q': text})}" for text in SEARCHES)
    yield from ("/api/v1/admin/requests?limit=100", "/api/v1/users/me/requests")


def keys() -> dict[str, str]:
    """Return the key of a row of each model, by `app/model`."""
    models = {
        "accounts/signingkey": SigningKey, "proxy/maintenance": Maintenance, "ratelimit/addressrule": AddressRule,
        "ratelimit/limitrule": LimitRule,
    }  # fmt: skip
    first = {name: str(model._default_manager.order_by("pk")[0].pk) for name, model in models.items()}
    return first | {
        "accounts/user": str(key(1)), "accounts/apikey": "k00000000001", "accounts/issuedtoken": TOKEN,
        "accounts/signin": TOKEN, "audit/auditevent": str(key(1)), "sessions_api/manifest": str(key(2)),
        "sessions_api/session": str(key(2)), "sessions_api/trustpolicy": str(key(1)),
    }  # fmt: skip


def request_lists() -> Iterator[str]:
    """Yield the searches of requests: each filter, each pair of filters, and a later page."""
    path = reverse("admin:requests")
    border = KeptRequest.objects.order_by("-pk").values_list("pk", flat=True)[5]
    yield from (path, f"{path}?before={border}")
    for name, texts in REQUEST_FILTERS.items():
        for text in texts:
            yield f"{path}?{urlencode({name: text})}"
            yield f"{path}?{urlencode({name: text, 'before': border})}"
    for (one, texts), (other, others) in combinations(REQUEST_FILTERS.items(), 2):
        for first in texts:
            yield from (f"{path}?{urlencode({one: first, other: second})}" for second in others)


def lists_of(client: Client, model: type[Any]) -> Iterator[str]:
    """Yield the lists of a model: its filters alone and in pairs, its sorts, its searches, and the last pages."""
    path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    yield path
    changes = list_at(client, path)
    if changes is None:
        return
    filters = [choices_of(spec, changes) for spec in changes.filter_specs]
    filters.append(list(LINKED.get(path.removeprefix("/admin/").strip("/").replace("/", "_"), ())))
    singles = [choice for choices in filters for choice in choices]
    common = [[*choices[:2], *choices[2:][-1:]] for choices in filters]
    pairs = [f"{one}&{other}" for first, second in combinations(common, 2) for one in first for other in second]
    sorts = list(sorts_of(changes))
    searches = [urlencode({"q": text}) for text in SEARCHES] if changes.search_fields else []
    for query in (*singles, *pairs, *sorts, *searches):
        yield f"{path}?{query}"
    for query in (one for choices in common for one in choices):
        yield from (f"{path}?{query}&{sort}" for sort in sorts)
        yield from (f"{path}?{query}&{search}" for search in (*searches[:1], *searches[7:9]))
    yield from (f"{path}?{search}&{sort}" for search in searches[:1] for sort in sorts)
    for query in ("", *singles, *searches[:1], *searches[7:9], *sorts):
        last = list_at(client, f"{path}?{query}").paginator.num_pages
        if last > 1:
            yield f"{path}?{query}&p={last}"


def list_at(client: Client, path: str) -> Any:
    """Return the ChangeList of a page, None if it has none."""
    return (getattr(client.get(path), "context_data", None) or {}).get("cl")


def choices_of(spec: Any, changes: Any) -> list[str]:
    """Return the queries of a filter's choices."""
    return [
        choice["query_string"].removeprefix("?") for choice in spec.choices(changes) if len(choice["query_string"]) > 1
    ]


def sorts_of(changes: Any) -> Iterator[str]:
    """Yield the queries that sort a list by each of its columns, in both directions."""
    for place, name in enumerate(changes.list_display):
        allowed = changes.sortable_by is None or name in changes.sortable_by
        if allowed and changes.get_ordering_field(name):
            yield from (f"o={place}", f"o=-{place}")
