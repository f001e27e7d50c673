"""Issued tokens, and the keys that sign them."""

from datetime import datetime

from django.db import models
from django.utils import timezone

from accounts.models.users import User


class IssuedTokenQuerySet(models.QuerySet["IssuedToken"]):
    def live(self, now: datetime | None = None) -> "IssuedTokenQuerySet":
        """Return the tokens that are neither expired nor revoked."""
        return self.filter(expires_at__gt=now or timezone.now(), revoked_at=None)

    def to_blacklist(self, now: datetime | None = None) -> "IssuedTokenQuerySet":
        """Return the revoked access tokens that have not expired yet."""
        unexpired = self.filter(expires_at__gt=now or timezone.now())
        return unexpired.filter(kind=IssuedToken.Kind.ACCESS, revoked_at__isnull=False)

    def given_for(self, jti: str) -> "IssuedTokenQuerySet":
        """Return the pair for which the refresh token with this id was exchanged."""
        return self.filter(predecessor=jti)

    def sign_ins(self) -> "IssuedTokenQuerySet":
        """Return the usable refresh token of each family, one for each signed-in device."""
        return self.live().filter(kind=IssuedToken.Kind.REFRESH, used_at=None)


class IssuedToken(models.Model):
    """The id and state of an issued token, never the token itself. All tokens of one login form a family."""

    class Kind(models.TextChoices):
        ACCESS = "access", "Access"
        REFRESH = "refresh", "Refresh"

    jti = models.CharField(primary_key=True, max_length=32, editable=False)
    family = models.UUIDField(db_index=True)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="issued_tokens")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    signed_in_at = models.DateTimeField(null=True, blank=True)  # when the family began
    kid = models.CharField(max_length=64, blank=True)  # of the signing key
    # The id of the refresh token that was exchanged for this pair. It is None in the pair of a login, because unique
    # constraints ignore None on both databases.
    predecessor = models.CharField(max_length=32, null=True, blank=True, editable=False)
    used_at = models.DateTimeField(null=True, blank=True)  # set before the client gets the new pair
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
            # Lists are sorted by time and then by key; without the key in the index, MongoDB would sort all rows.
            models.Index(fields=["issued_at", "jti"], name="token_by_issue"),
            models.Index(fields=["kind", "issued_at", "jti"], name="token_by_kind"),
            models.Index(fields=["kind", "expires_at"], name="token_kind_expires"),
            models.Index(fields=["kid", "expires_at"], name="token_kid_expires"),
            models.Index(fields=["predecessor"], name="token_predecessor"),
            models.Index(fields=["address", "issued_at"], name="token_address_issued"),
        ]
        constraints = [models.UniqueConstraint(fields=["predecessor", "kind"], name="one_pair_for_a_refresh_token")]

    def __str__(self) -> str:
        return f"{self.kind} {self.jti}"


class SigningKeyQuerySet(models.QuerySet["SigningKey"]):
    def usable(self) -> "SigningKeyQuerySet":
        """Return the keys that sign or verify now, or will soon."""
        states = SigningKey.State
        waiting = models.Q(state__in=[states.NEXT, states.ACTIVE])
        return self.filter(waiting | models.Q(state=states.RETIRING, verify_until__gt=timezone.now()))


class SigningKey(models.Model):
    """A key for tokens. Workers load a `next` key before it signs; a `retiring` key verifies until its tokens end."""

    class State(models.TextChoices):
        NEXT = "next", "Next"
        ACTIVE = "active", "Active"
        RETIRING = "retiring", "Retiring"
        REVOKED = "revoked", "Revoked"

    kid = models.CharField(primary_key=True, max_length=64, editable=False)
    algorithm = models.CharField(max_length=10)
    secret = models.TextField(editable=False)  # encrypted; `key_material` derives the keys from it
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
