"""The operator page for automatic lockouts."""

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from accounts import lockouts
from accounts.models import AutomaticLockout
from lucid_gateway.audit.events import record
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.operators.confirmation import ReadOnlyAdmin, operator_of


@admin.register(AutomaticLockout)
class LockoutAdmin(ReadOnlyAdmin):
    """A list that is read from Redis; a button on each row lifts the lockout."""

    def get_urls(self) -> list[URLPattern]:
        """Return only the list, because a lockout has no page of its own."""
        return [path("", self.admin_site.admin_view(self.changelist_view), name="accounts_automaticlockout_changelist")]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the active lockouts; a POST lifts one."""
        try:
            if request.method == "POST":
                self.lift(request)
                return HttpResponseRedirect(request.path)
            found: list[lockouts.Lockout] | None = lockouts.active_lockouts()
        except RedisUnavailable:
            self.message_user(request, "Redis is unavailable: the lockouts are unknown.", messages.ERROR)
            found = None
        context = {
            **self.admin_site.each_context(request), "title": "Active lockouts", "opts": self.opts, "lockouts": found,
        }  # fmt: skip
        return TemplateResponse(request, "admin/accounts/lockouts.html", context)

    def lift(self, request: HttpRequest) -> None:
        """Lift the lockout that the form names."""
        subject = lockouts.subject_of(request.POST.get("subject", ""))
        if subject.kind not in lockouts.RULES:
            return
        lockouts.lift(subject)
        concerned = lockouts.whom_it_concerns(subject)
        record("lockout.lifted", subject=concerned, actor=operator_of(request), counted=subject.kind)
        self.message_user(request, f"The lockout of {subject.name} was lifted.", messages.SUCCESS)
