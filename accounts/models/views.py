"""Other looks at the same things, for the operator pages."""

from typing import ClassVar

from django.db import models

from accounts.models.tokens import IssuedToken, IssuedTokenQuerySet


class SignInManager(models.Manager["IssuedToken"]):
    """The refresh tokens that still work: one for each signed-in device."""

    def get_queryset(self) -> IssuedTokenQuerySet:
        """Return them."""
        return IssuedTokenQuerySet(self.model, using=self._db).sign_ins()


class SignIn(IssuedToken):
    """A signed-in device: a token family, known by the refresh token of it that still works."""

    objects: ClassVar[models.Manager["IssuedToken"]] = SignInManager()  # type: ignore[assignment]  # another manager than the table's own

    class Meta:
        proxy = True
        verbose_name = "signed-in device"


class AutomaticLockout(models.Model):
    """A lockout in force. There is no table: `accounts.lockouts` keeps them in Redis."""

    class Meta:
        managed = False
        verbose_name = "lockout"
