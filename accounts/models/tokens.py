"""The tokens that were issued, and the keys that signed them."""

from datetime import datetime

from django.db import models
from django.utils import timezone

from accounts.models.users import User


class IssuedTokenQuerySet(models.QuerySet["IssuedToken"]):
    """Reads over the tokens that were issued."""

    def live(self, now: datetime | None = None) -> "IssuedTokenQuerySet":
        """Return those neither expired nor revoked."""
        return self.filter(expires_at__gt=now or timezone.now(), revoked_at=None)

    def to_blacklist(self, now: datetime | None = None) -> "IssuedTokenQuerySet":
        """Return the access tokens that were revoked and would still be accepted for what is left of them."""
        alive = self.filter(expires_at__gt=now or timezone.now())
        return alive.filter(kind=IssuedToken.Kind.ACCESS, revoked_at__isnull=False)

    def given_for(self, jti: str) -> "IssuedTokenQuerySet":
        """Return the pair that the refresh token of that id was traded for."""
        return self.filter(predecessor=jti)

    def sign_ins(self) -> "IssuedTokenQuerySet":
        """Return the one refresh token of each family that still works: the signed-in devices."""
        return self.live().filter(kind=IssuedToken.Kind.REFRESH, used_at=None)


class IssuedToken(models.Model):
    """A token that was issued: its id and fate, never the token. The tokens of one login are a family."""

    class Kind(models.TextChoices):
        ACCESS = "access", "Access"
        REFRESH = "refresh", "Refresh"

    jti = models.CharField(primary_key=True, max_length=32, editable=False)
    family = models.UUIDField(db_index=True)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="issued_tokens")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    issued_at = models.DateTimeField(db_index=True)
    expires_at = models.DateTimeField(db_index=True)
    signed_in_at = models.DateTimeField(null=True, blank=True)  # when the family began
    kid = models.CharField(max_length=64, blank=True)  # of the signing key
    # The id of the refresh token that was traded for this token and the other one of its pair. None in the pair of a
    # login, because neither database takes two of them for the same value.
    predecessor = models.CharField(max_length=32, null=True, blank=True, editable=False)
    used_at = models.DateTimeField(null=True, blank=True)  # set before the client gets what it was traded for
    revoked_at = models.DateTimeField(null=True, blank=True)
    address = models.CharField(max_length=45, blank=True)
    user_agent = models.CharField(max_length=200, blank=True)

    objects = IssuedTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-issued_at"]
        indexes = [
            models.Index(fields=["jti"], name="token_key"),
            models.Index(fields=["user", "expires_at"], name="token_user_expires"),
            models.Index(fields=["revoked_at", "expires_at"], name="token_revoked_expires"),
            models.Index(fields=["kind", "issued_at"], name="token_kind_issued"),
            models.Index(fields=["kid", "expires_at"], name="token_kid_expires"),
            models.Index(fields=["predecessor"], name="token_predecessor"),
        ]
        constraints = [models.UniqueConstraint(fields=["predecessor", "kind"], name="one_pair_for_a_refresh_token")]

    def __str__(self) -> str:
        return f"{self.kind} {self.jti}"


class SigningKeyQuerySet(models.QuerySet["SigningKey"]):
    """Reads over the signing keys."""

    def usable(self) -> "SigningKeyQuerySet":
        """Return the keys that sign or verify now, or will soon."""
        states = SigningKey.State
        waiting = models.Q(state__in=[states.NEXT, states.ACTIVE])
        return self.filter(waiting | models.Q(state=states.RETIRING, verify_until__gt=timezone.now()))


class SigningKey(models.Model):
    """A key for tokens. `next` is known to all workers before it signs, `retiring` verifies until its tokens end."""

    class State(models.TextChoices):
        NEXT = "next", "Next"
        ACTIVE = "active", "Active"
        RETIRING = "retiring", "Retiring"
        REVOKED = "revoked", "Revoked"

    kid = models.CharField(primary_key=True, max_length=64, editable=False)
    algorithm = models.CharField(max_length=10)
    secret = models.TextField(editable=False)  # encrypted; what `key_material` makes keys from
    state = models.CharField(max_length=10, choices=State.choices)
    created_at = models.DateTimeField(default=timezone.now)
    activated_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    verify_until = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = SigningKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [models.Index(fields=["kid"], name="signing_key_key")]
        constraints = [
            models.UniqueConstraint(fields=["state"], condition=models.Q(state="active"), name="one_active_key")
        ]

    def __str__(self) -> str:
        return self.kid
