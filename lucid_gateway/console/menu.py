"""The menu of the console: one row per page, grouped by what people do."""

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from lucid_gateway.console import alarms


@dataclass(frozen=True)
class Row:
    """A page of the menu, by its URL name; `count` says how many of its rows need somebody."""

    name: str
    page: str
    count: Callable[[], int] = lambda: 0


GROUPS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    ("Watch", (
        Row("Overview", "admin:index"),
        Row("Requests", "admin:requests"),
        Row("Alarms", "admin:alarms", alarms.count),
        Row("What would happen?", "admin:preview"),
    )),
    ("People", (
        Row("Users", "admin:accounts_user_changelist"),
        Row("Lockouts", "admin:accounts_automaticlockout_changelist"),
        Row("Signed-in devices", "admin:accounts_signin_changelist"),
        Row("Tokens", "admin:accounts_issuedtoken_changelist"),
        Row("API keys", "admin:accounts_apikey_changelist"),
    )),
    ("Policy", (
        Row("Limits", "admin:ratelimit_limitrule_changelist"),
        Row("Addresses", "admin:ratelimit_addressrule_changelist"),
        Row("Clusters", "admin:proxy_maintenance_changelist", lambda: alarms.count("cluster", "instance")),
        Row("Routes", "admin:routes"),
        Row("Signing keys", "admin:accounts_signingkey_changelist"),
    )),
    ("Recordings", (
        Row("Sessions", "admin:sessions_api_session_changelist"),
        Row("Manifests", "admin:sessions_api_manifest_changelist"),
        Row("Trust policies", "admin:sessions_api_trustpolicy_changelist"),
    )),
    ("Record", (
        Row("Audit log", "admin:audit_auditevent_changelist"),
    )),
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """A link of the menu as the page shows it."""

    name: str
    url: str
    current: bool
    count: int


@dataclass(frozen=True)
class Group:
    name: str
    items: tuple[Item, ...]


def menu(request: HttpRequest) -> list[Group]:
    """Return the menu; the current page is the one with the longest address that begins the request's path."""
    rows = [(group, row, address) for group, rows in GROUPS for row in rows if (address := address_of(row)) is not None]
    inside = [address for _, _, address in rows if request.path.startswith(address)]
    current = max(inside, key=len, default="")
    if current == reverse("admin:index") != request.path:
        current = ""
    return [
        Group(
            name,
            tuple(
                Item(row.name, address, address == current, row.count())
                for group, row, address in rows
                if group == name
            ),
        )
        for name, _ in GROUPS
    ]


def address_of(row: Row) -> str | None:
    """Return the address of a page, or None if this gateway does not have it."""
    try:
        return reverse(row.page)
    except NoReverseMatch:
        return None
