"""The account and the credential of a request."""

from functools import cached_property

from django.conf import settings
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts import lockouts
from accounts.lockouts import LockoutSubject
from accounts.users.locks import FOREVER
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.explorer.cases.caller import CallerWords
from lucid_gateway.explorer.words import clock, moment
from lucid_gateway.kernel.redis.access import RedisUnavailable
from lucid_gateway.operators.numbers import counted


class AccountWords(CallerWords):
    """Locks, permissions, and the state of the credential."""

    @property
    def locked_by(self) -> SafeString:
        return self.person(str(self.row.facts.get("locked_by") or "Staff"))

    @property
    def lock_reason(self) -> str:
        return str(self.row.facts.get("lock_reason") or "no reason was given")

    @cached_property
    def lock_event(self) -> AuditEvent | None:
        events = AuditEvent.objects.filter(
            subject=self.user_id, type="user.locked", created_at__lte=self.row.started_at
        )
        return events.order_by("-created_at").first()

    @property
    def lock(self) -> SafeString:
        """Who locked the account, when, why and until when, as sentences."""
        since = clock(self.lock_event.created_at) if self.lock_event else None
        until = moment(self.row.facts.get("locked_until"))
        ends = (
            format_html("until {}", clock(until))
            if until and until.year < FOREVER.year
            else "until somebody unlocks it"
        )
        begun = format_html(" at {}", since) if since else ""
        says = format_html("{} locked it{}, {}: “{}”.", self.locked_by, begun, ends, self.lock_reason)
        return says if self.is_still_locked else format_html("{} It has been unlocked since.", says)

    @property
    def is_still_locked(self) -> bool:
        return self.user_row is not None and self.user_row.is_locked

    @property
    def permission(self) -> str:
        return str(self.row.facts.get("permission") or "that the endpoint requires")

    @property
    def lacking(self) -> SafeString:
        """Why the caller lacks the permission, as a sentence."""
        if self.row.facts.get("needs") == "access_token":
            return format_html("{} may not do this: only a signed-in user may, with an access token.", self.who)
        if self.row.facts.get("needs") == "second_factor":
            return format_html("{} is staff but had no second factor.", self.user)
        if self.is_key:
            given = ", ".join(self.key_row.permissions) if self.key_row else ""
            only = format_html("{} has only these permissions: {}.", self.who, given or "none")
            return format_html("{} They cannot be changed: {} can make another key.", only, self.user)
        return format_html("The role {} of {} does not include it.", self.row.role or "unknown", self.user)

    @property
    def key_state(self) -> SafeString:
        """What is known of an API key that was not accepted, as sentences."""
        if not self.row.credential_id:
            return SafeString("What the client sent does not have the form of an API key.")
        if self.key_row is None:
            return format_html("There is no key with the id {}.", self.row.credential_id)
        owner = format_html("{} of {}", self.key, self.user)
        if self.key_row.revoked_at is not None:
            return format_html("The key {} was revoked at {}.", owner, clock(self.key_row.revoked_at))
        return format_html("The key {} exists, but the secret was wrong.", owner)

    @property
    def epoch(self) -> SafeString:
        """Since when the user's earlier tokens are invalid."""
        at = self.user_row.token_epoch_at if self.user_row else None
        return clock(at) if at else SafeString("an earlier time")

    @property
    def token_minutes(self) -> str:
        return counted(settings.ENV.JWT_ACCESS_TOKEN_EXPIRE_MINUTES, "minute")

    @cached_property
    def lockouts(self) -> list[LockoutSubject] | None:
        """The subjects of lockouts of the user and of the address that hold now, None if Redis is unavailable."""
        user, subjects = self.user_row, list[LockoutSubject]()
        if user is not None:
            subjects += lockouts.subjects_of_user(user.pk, user.email)
        if self.row.address_key:
            subjects.append(lockouts.of_address(self.row.address))
        try:
            return [found.subject for found in lockouts.active_lockouts_of(subjects)] if subjects else []
        except RedisUnavailable:
            return None

    @property
    def user_may_be_locked_out(self) -> bool:
        return self.lockouts is None or any(subject.kind != "address" for subject in self.lockouts)

    @property
    def address_lockout(self) -> LockoutSubject | None:
        return next((subject for subject in self.lockouts or () if subject.kind == "address"), None)
