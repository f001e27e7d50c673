"""What an operator must know first about a user: locks, lockouts and stolen tokens."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from accounts.admin.lockouts import LockoutRow
from accounts.lockouts import active_lockouts_of, subjects_of_user
from accounts.models import IssuedToken, User
from accounts.users.locks import FOREVER
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.console.known import known
from lucid_gateway.operators import links
from lucid_gateway.operators.numbers import counted
from lucid_gateway.operators.search import HYPHENATED

REUSE_SHOWN = timedelta(days=7)


@dataclass(frozen=True)
class Reuse:
    """A refresh token of the user was used twice. `owner` is the newest token of the login that was ended, if known."""

    event: AuditEvent
    owner: IssuedToken | None

    @property
    def block(self) -> str:
        """The address of the form that blocks the client."""
        return links.block_page(self.event.address)

    @property
    def after_owner(self) -> str:
        """How long after the owner's token the second use came, such as `4 minutes`."""
        seconds = int((self.event.created_at - self.owner.issued_at).total_seconds()) if self.owner else -1
        if seconds < 0:
            return ""
        return counted(seconds, "second") if seconds < 60 else counted(seconds // 60, "minute")


@dataclass(frozen=True)
class Status:
    """`lockouts` is None while Redis is unavailable."""

    user: User
    locked_at: datetime | None
    locked_by: User | None
    lockouts: list[LockoutRow] | None
    reuse: Reuse | None

    @property
    def is_active(self) -> bool:
        """Whether nothing hinders the user."""
        return self.user.is_active and not self.user.is_locked and self.lockouts == [] and self.reuse is None

    @property
    def has_end(self) -> bool:
        """Whether the lock ends by itself."""
        return self.user.locked_until != FOREVER

    @property
    def password_paused_until(self) -> datetime | None:
        """When the user can try codes and passwords again, None if they can now."""
        ends = (row.lockout.until for row in self.lockouts or () if row.lockout.subject.kind == "account")
        return next(ends, None)


def status_of(user: User) -> Status:
    """Return the user's status, from at most five queries and one call of Redis."""
    locked = known(lambda: newest(user, "user.locked")) if user.is_locked else None
    by = known(lambda: operator_called(user.locked_by)) if user.is_locked else None
    return Status(
        user=user,
        locked_at=locked.created_at if locked else None,
        locked_by=by,
        lockouts=known(lambda: lockouts_of(user)),
        reuse=known(lambda: reuse_of(user)),
    )


def newest(user: User, kind: str) -> AuditEvent | None:
    """Return the newest event of the kind about the user."""
    return AuditEvent.objects.filter(subject=str(user.pk), type=kind).order_by("-created_at").first()


def operator_called(email: str) -> User | None:
    return User.objects.filter(email=email).first()


def lockouts_of(user: User) -> list[LockoutRow]:
    """Return the user's active lockouts; raise RedisUnavailable."""
    return [LockoutRow(found, user) for found in active_lockouts_of(subjects_of_user(user.pk, user.email))]


def reuse_of(user: User) -> Reuse | None:
    """Return the last use of a refresh token that was used before, if it is recent."""
    event = newest(user, "token.reused")
    if event is None or event.created_at < timezone.now() - REUSE_SHOWN:
        return None
    family = str(event.details.get("family"))
    if not HYPHENATED.fullmatch(family):
        return Reuse(event, None)
    tokens = IssuedToken.objects.filter(family=family, issued_at__lte=event.created_at)
    return Reuse(event, tokens.order_by("-issued_at").first())
