"""The operator page for automatic lockouts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from accounts import lockouts
from accounts.lockouts import Lockout
from accounts.models import AutomaticLockout, User
from accounts.users.staff import may_manage
from lucid_gateway.audit.events import record
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.operators.back import back_of
from lucid_gateway.operators.confirmation import ReadOnlyAdmin, operator_of
from lucid_gateway.operators.search import HYPHENATED

MAX_SHOWN = 500
# What each kind of lockout stops.
STOPPED = {
    "account": "Codes and password",
    "address": "All guesses from an address",
    "second-factor": "Second factor after a mailed link",
    "signed-in": "Second factor of a signed-in user",
}


@dataclass(frozen=True)
class LockoutRow:
    """A lockout as the list shows it; `user` is None for an address and for an email without an account."""

    lockout: Lockout
    user: User | None

    @property
    def stopped(self) -> str:
        return STOPPED.get(self.lockout.subject.kind, self.lockout.subject.kind)

    def may_be_lifted_by(self, operator: User) -> bool:
        """Return whether the lockout is nobody's or that of a user whom the operator manages."""
        return self.user is None or may_manage(operator.role, operator.pk, self.user)


def rows_of(found: Iterable[Lockout]) -> list[LockoutRow]:
    """Return the rows with their users, in two queries."""
    listed = list(found)
    ids = [lockout.subject.name for lockout in listed if HYPHENATED.fullmatch(lockout.subject.name)]
    emails = [lockout.subject.name for lockout in listed if "@" in lockout.subject.name]
    users: dict[str, User] = {str(key): user for key, user in User.objects.in_bulk(ids).items()} if ids else {}
    if emails:
        users |= {user.email: user for user in User.objects.filter(email__in=emails)}
    return [LockoutRow(lockout, users.get(lockout.subject.name)) for lockout in listed]


@admin.register(AutomaticLockout)
class LockoutAdmin(ReadOnlyAdmin):
    """A list that is read from Redis; a button on each row lifts the lockout."""

    def get_urls(self) -> list[URLPattern]:
        """Return only the list, because a lockout has no page of its own."""
        return [path("", self.admin_site.admin_view(self.changelist_view), name="accounts_automaticlockout_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the active lockouts whose subject contains the search text; a POST lifts one."""
        text = request.GET.get("q", "").strip().lower()
        found: list[Lockout] | None = None
        try:
            if request.method == "POST":
                self.lift(request)
                return HttpResponseRedirect(back_of(request) or request.get_full_path())
            found = [lockout for lockout in lockouts.active_lockouts() if text in lockout.subject.name.lower()]
        except RedisUnavailable:
            self.message_user(request, "Redis is unavailable: the lockouts are unknown.", messages.ERROR)
        rows, operator = rows_of((found or [])[:MAX_SHOWN]), operator_of(request)
        context = {
            **self.admin_site.each_context(request),
            "title": "Active lockouts",
            "opts": self.opts,
            "text": text,
            "lockouts": found,
            "rows": [(row, row.may_be_lifted_by(operator)) for row in rows],
            "left_out": len(found or []) - MAX_SHOWN,
        }
        return TemplateResponse(request, "admin/accounts/lockouts.html", context)

    def lift(self, request: HttpRequest) -> None:
        """Lift the active lockout that the form names. Those of other staff are for super admins."""
        subject = lockouts.subject_of(request.POST.get("subject", ""))
        found = rows_of(lockouts.active_lockouts_of([subject])) if subject.kind in lockouts.RULES else []
        if not found:
            return
        if not found[0].may_be_lifted_by(operator_of(request)):
            self.message_user(request, "Only a super admin may lift the lockout of other staff.", messages.ERROR)
            return
        lockouts.lift(subject)
        concerned = lockouts.whom_it_concerns(subject)
        record(
            "lockout.lifted", subject=concerned, actor=operator_of(request), counted=subject.kind,
            changes={"lockouts": [[subject.kind], []]},
        )  # fmt: skip
        self.message_user(request, f"The lockout of {subject.name} was lifted.", messages.SUCCESS)
