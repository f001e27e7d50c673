"""The table of all operator pages: who may open which one.

A new page needs one line in PAGES, under its URL pattern below /admin/: `STAFF` if all staff may open it,
`SUPER_ADMINS`, `NOBODY` (403 for everyone), or a `Page` with other statuses. The six pages of a new ModelAdmin are one
line with `model_pages`, and it needs a row in `make_rows`. Everyone who is not staff is sent to the login, unless the
line says otherwise. What only super admins may *do* is in test_roles.py.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.urls import URLPattern, URLResolver
from django.utils import timezone

from accounts.api_keys import create_api_key
from accounts.models import SigningKey, User
from accounts.tokens.issuing import issue_tokens
from accounts.tokens.signing_keys import bootstrap
from lucid_gateway.audit.events import record
from lucid_gateway.explorer.tests.stage import kept
from proxy.models import Maintenance
from ratelimit.models import AddressRule, LimitRule
from sessions_api.lifecycle import change_session, create_session
from sessions_api.manifests import make_manifest
from sessions_api.models import Chunk, TrustPolicy


@dataclass(frozen=True)
class Page:
    """The status that a GET gets from an admin and a super admin, and from others: 302 leads to the login."""

    admin: int = 200
    super_admin: int = 200
    others: int = 302


STAFF, SUPER_ADMINS, NOBODY = Page(), Page(admin=403), Page(admin=403, super_admin=403)
REDIRECT, MISSING = Page(admin=302, super_admin=302), Page(admin=404, super_admin=404)


def model_pages(path: str, *, add: Page = NOBODY) -> dict[str, Page]:
    """Return the pages of a ModelAdmin: its rows can be seen by all staff, and deleted by nobody."""
    row = f"{path}/<path:object_id>/"
    return {
        f"{path}/": STAFF, f"{path}/add/": add, f"{row}change/": STAFF, f"{row}history/": STAFF,
        f"{row}delete/": NOBODY, row: REDIRECT,
    }  # fmt: skip


PAGES: Mapping[str, Page] = {
    "": STAFF,
    "login/": Page(admin=302, super_admin=302, others=200),
    "logout/": Page(admin=405, super_admin=405),
    "password_change/": STAFF,
    "password_change/done/": STAFF,
    "search/": STAFF,
    "second-factor/": STAFF,
    "overview.json": STAFF,
    "alarms.json": STAFF,
    "alarms/": STAFF,
    "requests/": STAFF,
    "requests/<str:request_id>/": STAFF,
    "undo/": STAFF,
    "preview/": STAFF,
    "routes/": STAFF,
    "routes/edge/off/": REDIRECT,  # back to the routes, because no edge is in use
    "routes/edge/on/": Page(admin=405, super_admin=405),
    "autocomplete/": NOBODY,
    "jsi18n/": STAFF,
    "<app_label>/": REDIRECT,
    "<url>": MISSING,
    **model_pages("accounts/user"),
    **model_pages("accounts/apikey"),
    **model_pages("accounts/issuedtoken"),
    **model_pages("accounts/signin"),
    **model_pages("accounts/signingkey"),
    "accounts/signingkey/rotate/": Page(admin=302),  # back to the list, with a message
    "accounts/automaticlockout/": STAFF,
    **model_pages("audit/auditevent"),
    "audit/auditevent/export/<str:form>/": STAFF,
    **model_pages("proxy/maintenance", add=STAFF),
    "proxy/maintenance/now.json": STAFF,
    "proxy/maintenance/close/": REDIRECT,  # back to the list, because the address names no cluster
    "proxy/maintenance/open/": Page(admin=405, super_admin=405),
    **model_pages("ratelimit/addressrule", add=STAFF),
    **model_pages("ratelimit/limitrule", add=STAFF),
    **model_pages("sessions_api/manifest"),
    "sessions_api/manifest/<path:object_id>/verify/": STAFF,
    "sessions_api/manifest/<path:object_id>/anchor/": STAFF,
    "sessions_api/trustpolicy/<path:object_id>/evaluate/": STAFF,
    **model_pages("sessions_api/session"),
    **model_pages("sessions_api/trustpolicy"),
}  # fmt: skip
# What stands in the address in place of a variable part; `object_id` is a row of `make_rows`.
EXAMPLES = {"form": "csv", "app_label": "accounts", "request_id": "request-1", "url": "nothing-here/"}


def make_rows(owner: User) -> dict[str, str]:
    """Make a row for each model with pages, most of them the owner's; return the keys by `app/model`."""
    pair = issue_tokens(owner)
    key, _ = create_api_key(owner, name="laptop", permissions=["user:read"])
    bootstrap()
    session = create_session(owner.pk, name="a session")
    Chunk.objects.create(session=session, index=0, size=1, hash="0" * 64, state="recorded")
    manifest = make_manifest(change_session(session, version=None, changes={"status": "completed"}))
    policy = TrustPolicy.objects.create(user=owner, slot=1, name="policy", rules=[])
    kept(request_id=EXAMPLES["request_id"])
    tomorrow = timezone.now() + timedelta(days=1)
    rows: dict[str, Any] = {
        "accounts/user": owner,
        "accounts/apikey": key,
        "accounts/issuedtoken": owner.issued_tokens.get(kind="access"),
        "accounts/signin": owner.issued_tokens.get(kind="refresh"),
        "accounts/signingkey": SigningKey.objects.get(state="active"),
        "audit/auditevent": record("user.updated", subject=owner),
        "proxy/maintenance": Maintenance.objects.create(
            cluster="tron_payment", kind="drain", reason="why", starts_at=tomorrow
        ),
        "ratelimit/addressrule": AddressRule.objects.create(network="203.0.113.0/24", kind="deny", reason="why"),
        "ratelimit/limitrule": LimitRule.objects.create(tier="public", limit=5000, reason="why"),
        "sessions_api/manifest": manifest,
        "sessions_api/session": session,
        "sessions_api/trustpolicy": policy,
    }
    assert pair.access
    return {path: str(row.pk) for path, row in rows.items()}


def patterns() -> list[str]:
    """Return the URL patterns of all operator pages, below /admin/."""
    return [simplified(pattern) for pattern in walk(admin.site.urls[0])]


def walk(urls: Any, before: str = "") -> Iterator[str]:
    for url in urls:
        assert isinstance(url, URLPattern | URLResolver)
        if isinstance(url, URLResolver):
            yield from walk(url.url_patterns, f"{before}{url.pattern}")
        else:
            yield f"{before}{url.pattern}"


def simplified(pattern: str) -> str:
    """Return the pattern with `<name>` for the groups of a regular expression."""
    return re.sub(r"\(\?P(<\w+>).*\)", r"\1", pattern.removeprefix("^").removesuffix("$"))


def address(pattern: str, rows: Mapping[str, str]) -> str:
    """Return the address of a page, with a row of its own model."""
    model = "/".join(pattern.split("/")[:2])
    values = EXAMPLES | {"object_id": rows.get(model, "1")}
    return "/admin/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: values[found[1]], pattern)
