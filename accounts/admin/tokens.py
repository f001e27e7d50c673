"""The operator pages for tokens, signed-in devices and signing keys."""

import uuid
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html

from accounts.admin.owned import OwnedAdmin, several_or_of_staff
from accounts.affected import spellings
from accounts.models import IssuedToken, IssuedTokenQuerySet, SignIn, SigningKey, User
from accounts.tokens.issuing import end_family
from accounts.tokens.revocation.revoking import revoke
from accounts.tokens.signing_keys import ROTATE_AFTER, Rotation, RotationUnderway, rotate
from accounts.users.staff import may_manage
from lucid_gateway.audit.events import record
from lucid_gateway.kernel.record import current_record
from lucid_gateway.operators.clients import client_words
from lucid_gateway.operators.confirmation import ReadOnlyAdmin, ask, operator_of
from lucid_gateway.operators.danger import Danger, always
from lucid_gateway.operators.numbers import counted
from lucid_gateway.operators.search import HYPHENATED, keys_beginning_with
from lucid_gateway.operators.templatetags.console import cut
from ratelimit.client_address import parse

COUNTED_TOKENS = 10_000  # a page does not wait for a longer count
ROTATION = (
    "Rotate the signing keys",
    "The next key signs from now on. The current key verifies until its last token expires.",
)
EMERGENCY = (
    "Retire all signing keys now",
    "Every key is revoked immediately, and with them {live}. All users must log in again. API keys and admin sessions "
    "stay valid. This takes some seconds.",
)


class StatusFilter(admin.SimpleListFilter):
    title, parameter_name = "status", "fate"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = {"live": "Live", "blacklist": "On the blacklist", "revoked": "Revoked", "used": "Used"}
        return list((names | {"expired": "Expired"}).items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[IssuedToken]) -> QuerySet[IssuedToken]:
        now = timezone.now()
        filters: dict[str | None, dict[str, Any]] = {
            "live": {"expires_at__gt": now, "revoked_at": None, "used_at": None},
            "blacklist": {"expires_at__gt": now, "revoked_at__isnull": False, "kind": IssuedToken.Kind.ACCESS},
            "revoked": {"revoked_at__isnull": False},
            "used": {"used_at__isnull": False},
            "expired": {"expires_at__lte": now},
        }
        return queryset.filter(**filters.get(self.value(), {}))


def manageable_tokens(request: HttpRequest, tokens: QuerySet[IssuedToken]) -> IssuedTokenQuerySet:
    """Return the tokens of users that the operator may act on.

    They are filtered by primary key, because a search joins users and MongoDB cannot update a join.
    """
    operator = operator_of(request)
    rows = tokens.select_related("user")
    keys = [token.pk for token in rows if may_manage(operator.role, operator.pk, token.user)]
    return IssuedTokenQuerySet(IssuedToken).filter(pk__in=keys)


def revoke_of_each_user(tokens: IssuedTokenQuerySet, *, by: User) -> int:
    """Revoke the tokens, and write an audit event for each user whose tokens they are; return how many were live."""
    jtis: dict[Any, list[str]] = defaultdict(list)
    for user_id, jti in tokens.values_list("user_id", "jti"):
        jtis[user_id].append(jti)
    ended = 0
    for user_id, own in jtis.items():
        live = revoke(IssuedTokenQuerySet(IssuedToken).filter(jti__in=own))
        record("token.revoked", subject=str(user_id), actor=by, jtis=own, tokens=live)
        ended += live
    return ended


def description_of(token: IssuedToken) -> str:
    """Return user, token, address and user agent, as far as they are known."""
    return ", ".join(part for part in (f"{token.user}: {token}", token.address, token.user_agent) if part)


def state_of(token: IssuedToken) -> str:
    """Return whether the token is live, used, revoked or expired."""
    if token.revoked_at:
        return "revoked"
    if token.expires_at <= timezone.now():
        return "expired"
    return "used" if token.used_at else "live"


@admin.register(IssuedToken)
class IssuedTokenAdmin(OwnedAdmin):
    list_display: tuple[str, ...] = ("owner", "kind", "state", "issued_at", "expires_at", "address", "token_id")
    list_display_links: tuple[str, ...] = ("issued_at",)
    list_filter: ClassVar[tuple[Any, ...]] = (StatusFilter, "kind", "issued_at", "expires_at", "revoked_at")
    sortable_by: ClassVar[tuple[str, ...]] = ("issued_at",)
    search_fields = ("jti", "user__email", "user__username", "address")
    search_help_text = "Email, username, address, jti or family"
    actions: tuple[str, ...] = ("revoke", "end_families")
    row_actions: ClassVar[Mapping[str, str]] = {"revoke": "Revoke…"}
    harmful_actions = frozenset({"revoke", "end_families"})
    dangerous_actions = {"revoke": several_or_of_staff, "end_families": several_or_of_staff}
    pills = {"kind": {}, "state": {"live": "ok", "revoked": "bad"}}

    @admin.display(description="State")
    def state(self, token: IssuedToken) -> str:
        return state_of(token)

    @admin.display(description="jti")
    def token_id(self, token: IssuedToken) -> str:
        return cut(token.jti, "jti")

    def state_allows(self, action: str, row: IssuedToken) -> bool:
        return state_of(row) == "live"

    def named(self, text: str) -> Q:
        """Return the condition for a family, an address, or the beginning of an address or a jti."""
        if HYPHENATED.fullmatch(text):
            return Q(family=uuid.UUID(text))
        if address := parse(text):
            return Q(address__in=spellings(address))
        return Q(pk__in=keys_beginning_with(IssuedToken.objects.all(), text.lower(), "jti", "address"))

    @admin.action(description="Revoke the selected tokens", permissions=["operate"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[IssuedToken]) -> HttpResponseBase | None:
        """Revoke the live tokens; only super admins can revoke the tokens of other staff."""
        tokens = manageable_tokens(request, queryset)
        data, page = ask(
            self, request, list(tokens.select_related("user")), action="revoke", title="Revoke tokens",
            warning="The tokens stop with their next request.", shown_as=description_of, selected=queryset.count(),
        )  # fmt: skip
        if data is None:
            return page
        ended = revoke_of_each_user(tokens, by=operator_of(request))
        self.message_user(request, f"{counted(ended, 'token')} revoked.", messages.SUCCESS)
        return None

    @admin.action(description="End the logins of the selected tokens", permissions=["operate"])
    def end_families(self, request: HttpRequest, queryset: QuerySet[IssuedToken]) -> HttpResponseBase | None:
        """Revoke the token family of each."""
        tokens = manageable_tokens(request, queryset)
        data, page = ask(
            self, request, list(tokens.select_related("user")), action="end_families", title="End logins",
            warning="All tokens of these logins stop with their next request.", shown_as=description_of,
            selected=queryset.count(),
        )  # fmt: skip
        if data is None:
            return page
        families = set(tokens.values_list("family", "user_id"))
        for family, user_id in families:
            ended = end_family(family)
            record("token.revoked", subject=str(user_id), actor=operator_of(request), family=str(family), tokens=ended)
        self.message_user(request, f"{counted(len(families), 'login')} ended.", messages.SUCCESS)
        return None


@admin.register(SignIn)
class SignInAdmin(IssuedTokenAdmin):
    list_display = ("owner", "client", "address", "signed_in_at", "last_seen", "expires_at", "family")
    list_display_links = ("last_seen",)
    list_filter = ("issued_at",)
    actions = ("end_families",)
    row_actions = {"end_families": "End…"}
    pills = {}

    @admin.display(description="Client")
    def client(self, token: IssuedToken) -> str:
        """Return the client in words, with its whole user agent on hover."""
        words = client_words(token.user_agent)
        return format_html('<span class="cut" title="{}">{}</span>', token.user_agent, words) if words else ""

    @admin.display(description="Last seen", ordering="issued_at")
    def last_seen(self, token: IssuedToken) -> datetime:
        """Return when the device got its tokens, which it renews while it is used."""
        return token.issued_at


@admin.register(SigningKey)
class SigningKeyAdmin(ReadOnlyAdmin):
    list_display = (
        "kid", "state", "live_tokens", "algorithm", "age", "activated_at", "retired_at", "verify_until",
    )  # fmt: skip
    pills: ClassVar[Mapping[str, Mapping[Any, str]]] = {
        "state": {SigningKey.State.ACTIVE: "ok", SigningKey.State.RETIRING: "warn", SigningKey.State.REVOKED: "bad"}
    }
    list_filter = ("state", "algorithm")
    fields = ("kid", "algorithm", "state", "created_at", "activated_at", "retired_at", "verify_until", "revoked_at")
    sortable_by = ()
    change_list_template = "admin/accounts/signing_keys.html"
    dangerous_actions: ClassVar[Mapping[str, Danger]] = {"rotate": always}

    @admin.display(description="Live tokens")
    def live_tokens(self, key: SigningKey) -> int | str:
        """Return how many live tokens the key has signed. A revoked key has none: they were revoked with it."""
        if key.state == SigningKey.State.REVOKED:
            return 0
        count = IssuedToken.objects.filter(kid=key.kid).live().order_by()[: COUNTED_TOKENS + 1].count()
        return count if count <= COUNTED_TOKENS else f"over {COUNTED_TOKENS:,}"

    @admin.display(description="Age")
    def age(self, key: SigningKey) -> str:
        return days_of(timezone.now() - key.created_at)

    def get_urls(self) -> list[URLPattern]:
        """Add the page that rotates the keys."""
        rotation = path("rotate/", self.admin_site.admin_view(self.rotate), name="accounts_signingkey_rotate")
        return [rotation, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Say when the next rotation is due, and show its buttons only to super admins."""
        active = SigningKey.objects.filter(state=SigningKey.State.ACTIVE).first()
        signs_since = (active.activated_at or active.created_at) if active else None
        context = {
            "title": "Signing keys",
            "may_rotate": self.has_govern_permission(request),
            "active": active,
            "signs_since": signs_since,
            "signs_for": days_of(timezone.now() - signs_since) if signs_since else "",
            "due_at": signs_since + ROTATE_AFTER if signs_since else None,
            "is_due": signs_since is not None and timezone.now() >= signs_since + ROTATE_AFTER,
            "rotate_after": ROTATE_AFTER.days,
            "verify_days": settings.ENV.JWT_REFRESH_TOKEN_EXPIRE_DAYS,
        }
        return super().changelist_view(request, context)

    def rotate(self, request: HttpRequest) -> HttpResponseBase:
        """Ask, then rotate the keys; with `?retire_now=1` every earlier key is revoked immediately."""
        back = HttpResponseRedirect(reverse("admin:accounts_signingkey_changelist"))
        if not self.has_govern_permission(request):
            self.message_user(request, "Only super admins can rotate the keys.", messages.ERROR)
            return back
        now = "retire_now" in request.GET
        live = counted(IssuedToken.objects.live().count(), "live token")
        title, warning = EMERGENCY if now else ROTATION
        active = SigningKey.objects.filter(state=SigningKey.State.ACTIVE).values_list("kid", flat=True).first()
        typed = active or "" if now else ""
        data, page = ask(
            self,
            request,
            None,
            action="rotate",
            title=title,
            warning=warning.format(live=live),
            typed=typed,
            reason=now,
        )
        if data is None:
            assert page is not None
            return page
        try:
            rotation = rotate_as(operator_of(request), retire_now=now, why=data.get("reason", ""))
        except RotationUnderway:
            self.message_user(request, "Someone else is rotating the keys. Try again later.", messages.ERROR)
            return back
        text = f"{rotation.active} signs now; {counted(rotation.tokens_ended, 'token')} ended."
        self.message_user(request, text, messages.SUCCESS)
        return back


def days_of(age: timedelta) -> str:
    """Return a text such as `12 days`."""
    return counted(age.days, "day") if age.days else "less than a day"


def rotate_as(operator: User, *, retire_now: bool, why: str = "") -> Rotation:
    """Rotate the keys with the operator as the actor of all audit events, which keep `why`; raise RotationUnderway."""
    record = current_record()
    before, record.actor = record.actor, str(operator.pk)
    try:
        return rotate(settings.ENV.JWT_ALGORITHM, retire_now=retire_now, why=why)
    finally:
        record.actor = before
