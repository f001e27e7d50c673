"""Models without tables of their own, for the operator pages."""

from typing import ClassVar

from django.db import models

from accounts.models.tokens import IssuedToken, IssuedTokenQuerySet


class SignInManager(models.Manager["IssuedToken"]):
    """Finds the usable refresh tokens, one for each signed-in device."""

    def get_queryset(self) -> IssuedTokenQuerySet:
        return IssuedTokenQuerySet(self.model, using=self._db).sign_ins()


class SignIn(IssuedToken):
    """A signed-in device: a token family, represented by its usable refresh token."""

    objects: ClassVar[models.Manager["IssuedToken"]] = SignInManager()  # type: ignore[assignment]  # not the manager type of IssuedToken

    class Meta:
        proxy = True
        verbose_name = "signed-in device"


class AutomaticLockout(models.Model):
    """An active lockout. It has no table: `accounts.lockouts` stores lockouts in Redis."""

    class Meta:
        managed = False
        verbose_name = "lockout"
