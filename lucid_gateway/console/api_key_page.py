"""The page of one API key: whose it is, what it may do, and who used it from where."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from accounts.admin.credentials import TONES, ApiKeyAdmin, manageable_keys
from accounts.api_keys import state_of
from accounts.models import ApiKey
from lucid_gateway.console.known import known
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.operators import links
from lucid_gateway.operators.clients import client_words
from lucid_gateway.operators.confirmation import operator_of

MAX_READ, MAX_ADDRESSES = 1_000, 10


@dataclass(frozen=True)
class Use:
    """The requests of a key from one address, as far as they were kept: how many, how many of them were not answered,
    and when and with what client the last one came.
    """

    address: str
    count: int
    refused: int
    last: datetime
    client: str

    @property
    def requests_url(self) -> str:
        return links.requests_page(address=self.address)

    @property
    def block_url(self) -> str:
        return links.block_page(self.address)


@dataclass(frozen=True)
class Uses:
    """The addresses with the most requests; `count` is the number of requests read, `at_least` if there are more.

    `attempts` counts requests with the key's id and a wrong secret: whoever sent them does not have the key.
    """

    by_address: list[Use]
    count: int
    addresses: int
    at_least: bool
    attempts: int


def uses_of(key: ApiKey) -> Uses:
    """Return from where the key was used, from its newest kept requests."""
    columns = ("address", "status", "started_at", "user_agent")
    kept = KeptRequest.objects.filter(credential_id=key.key_id)
    rows = list(kept.filter(user_id=str(key.user_id)).values_list(*columns)[: MAX_READ + 1])
    read, refused = rows[:MAX_READ], Counter(address for address, status, *_ in rows[:MAX_READ] if status >= 400)
    counts = Counter(address for address, *_ in read)
    newest: dict[str, tuple[datetime, str]] = {}
    for address, _, started_at, user_agent in read:
        newest.setdefault(address, (started_at, user_agent))
    found = [
        Use(address, count, refused[address], newest[address][0], client_words(newest[address][1]))
        for address, count in counts.most_common(MAX_ADDRESSES)
    ]
    attempts = kept.filter(user_id="")[: MAX_READ + 1].count()
    return Uses(found, len(read), len(counts), len(rows) > MAX_READ, attempts)


@admin.register(ApiKey)
class ApiKeyPages(ApiKeyAdmin):
    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **options: Any
    ) -> HttpResponse:
        """Show the key instead of Django's read-only form."""
        response = super().render_change_form(request, context, *args, **options)
        key: ApiKey | None = options.get("obj")
        if key is None:
            return response
        state = state_of(key)
        response.template_name = "admin/accounts/api_key.html"  # type: ignore[attr-defined]  # a TemplateResponse
        response.context_data |= {  # type: ignore[attr-defined]
            "key": key,
            "state": state,
            "tone": TONES.get(state, ""),
            "uses": known(lambda: uses_of(key)),
            "requests_url": links.requests_page(key=key.key_id),
            "events_url": links.page("audit_auditevent_changelist", q=key.key_id),
            "user_url": links.page("accounts_user_change", key.user_id),
            "limit_url": links.page("ratelimit_limitrule_add", tier="authenticated", subject=f"key:{key.key_id}"),
            "may_manage": bool(manageable_keys(operator_of(request), ApiKey.objects.filter(pk=key.pk))),
        }
        return response
