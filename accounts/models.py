"""Users and the tokens issued to them."""

import uuid
from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone

from accounts.roles import STAFF, Role

username_validator = RegexValidator(
    r"\A[a-z0-9_-]{3,50}\Z", "Use 3 to 50 of the letters a-z, digits, underscore and hyphen."
)


class UserManager(BaseUserManager["User"]):
    """Creates users; emails are stored in lower case, so that they are unique without case on every database."""

    def create_user(self, email: str, username: str, password: str | None = None, **fields: Any) -> "User":
        """Create and return a user; raise IntegrityError if the email or the username is taken."""
        user = self.model(email=email.lower(), username=username, **fields)
        user.set_password(password)
        user.save(force_insert=True)
        return user

    def create_superuser(self, email: str, username: str, password: str | None = None, **fields: Any) -> "User":
        """Create and return a super admin (what `manage.py createsuperuser` calls)."""
        return self.create_user(email, username, password, role=Role.SUPER_ADMIN, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        """Return the user of that email, in any case."""
        return self.get(email=(username or "").lower())

    def locked(self) -> "models.QuerySet[User]":
        """Return the users whom a staff lock keeps out now."""
        return self.filter(locked_until__gt=timezone.now())


class User(AbstractBaseUser):
    """Someone with an account. What they may do follows from the role alone."""

    user_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField(unique=True)
    username = models.CharField(max_length=50, unique=True, validators=[username_validator])
    first_name = models.CharField(max_length=100, blank=True)
    last_name = models.CharField(max_length=100, blank=True)
    role = models.CharField(max_length=20, choices=Role.choices, default=Role.USER, db_index=True)
    is_active = models.BooleanField(default=True, db_index=True)
    email_verified = models.BooleanField(default=False)
    hardware_wallet_enabled = models.BooleanField(default=False)
    totp_enabled = models.BooleanField(default=False)
    locked_until = models.DateTimeField(null=True, blank=True, db_index=True)
    lock_reason = models.CharField(max_length=200, blank=True)
    locked_by = models.CharField(max_length=254, blank=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["username"]

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.email

    def clean(self) -> None:
        """Keep the email in lower case, whatever form it was typed into."""
        super().clean()
        self.email = self.email.lower()

    @property
    def is_staff(self) -> bool:
        """Whether the Django admin lets the user in; a lock ends that at once."""
        return self.role in STAFF and not self.is_locked

    @property
    def is_superuser(self) -> bool:
        """Whether the user is a super admin."""
        return self.role == Role.SUPER_ADMIN

    @property
    def is_locked(self) -> bool:
        """Whether a staff lock keeps the user out now."""
        return self.locked_until is not None and self.locked_until > timezone.now()

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Django's permission check: admins look and change, super admins also add and delete."""
        if not self.has_module_perms(""):
            return False
        action = perm.rpartition(".")[2].partition("_")[0]
        return self.is_superuser or action in ("view", "change")

    def has_perms(self, perms: Any, obj: Any = None) -> bool:
        """Whether all of the permissions are given."""
        return all(self.has_perm(perm, obj) for perm in perms)

    def has_module_perms(self, app_label: str) -> bool:
        """Whether the admin shows the app at all."""
        return self.is_active and self.is_staff


class IssuedTokenQuerySet(models.QuerySet["IssuedToken"]):
    """Reads over the tokens that were issued."""

    def live(self, now: datetime | None = None) -> "IssuedTokenQuerySet":
        """Return those neither expired nor revoked."""
        return self.filter(expires_at__gt=now or timezone.now(), revoked_at=None)

    def to_blacklist(self) -> "IssuedTokenQuerySet":
        """Return the access tokens that were revoked and would still be accepted for what is left of them."""
        return self.filter(kind=IssuedToken.Kind.ACCESS, revoked_at__isnull=False, expires_at__gt=timezone.now())


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
    used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    address = models.CharField(max_length=45, blank=True)
    user_agent = models.CharField(max_length=200, blank=True)

    objects: ClassVar[models.Manager["IssuedToken"]] = IssuedTokenQuerySet.as_manager()

    class Meta:
        ordering = ["-issued_at"]
        indexes = [
            models.Index(fields=["user", "expires_at"], name="token_user_expires"),
            models.Index(fields=["revoked_at", "expires_at"], name="token_revoked_expires"),
            models.Index(fields=["kind", "issued_at"], name="token_kind_issued"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.jti}"
