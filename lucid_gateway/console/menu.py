"""The menu of the console: one row per page, grouped by what people do."""

from collections.abc import Callable
from dataclasses import dataclass

from django.http import HttpRequest
from django.urls import reverse

from lucid_gateway.console.alarms.finding import count as alarms_open


@dataclass(frozen=True)
class Row:
    """A page of the menu, by its URL name; `count` says how many alarms its page has."""

    name: str
    page: str
    count: Callable[[], int] | None = None


GROUPS: tuple[tuple[str, tuple[Row, ...]], ...] = (
    ("Watch", (
        Row("Overview", "admin:index"),
        Row("Requests", "admin:requests"),
        Row("Alarms", "admin:alarms", alarms_open),
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
        Row("Clusters", "admin:proxy_maintenance_changelist", lambda: alarms_open("cluster", "instance")),
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
    urls = {row.page: reverse(row.page) for _, rows in GROUPS for row in rows}
    current = max((url for url in urls.values() if request.path.startswith(url)), key=len, default="")
    if current == urls["admin:index"] != request.path:
        current = ""  # every page is below the overview
    return [
        Group(
            name,
            tuple(
                Item(row.name, urls[row.page], urls[row.page] == current, row.count() if row.count else 0)
                for row in rows
            ),
        )
        for name, rows in GROUPS
    ]


def counts() -> dict[str, int]:
    """Return the numbers of the menu by the addresses of their pages, for pages that refresh themselves."""
    return {reverse(row.page): row.count() for _, rows in GROUPS for row in rows if row.count}
