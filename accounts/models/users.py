import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.crypto import salted_hmac

from lucid_gateway.policy.roles import STAFF, Role

username_validator = RegexValidator(
    r"\A[a-z0-9_-]{3,50}\Z", "Use 3 to 50 of the letters a-z, digits, underscore and hyphen."
)


def role_choices() -> list[tuple[str, str]]:
    """Return (role, label) pairs. A callable keeps new roles out of migrations."""
    return [(role.value, role.label) for role in Role]


class UserManager(BaseUserManager["User"]):
    """Creates and finds users. Emails are stored in lower case, so that they are unique regardless of case."""

    def create_user(self, email: str, username: str, password: str | None = None, **fields: Any) -> "User":
        """Create and return a user; raise IntegrityError if the email or the username is taken."""
        user = self.model(email=email.lower(), username=username, **fields)
        user.set_password(password)
        user.save(force_insert=True)
        return user

    def create_superuser(self, email: str, username: str, password: str | None = None, **fields: Any) -> "User":
        """Create and return a super admin; `manage.py createsuperuser` calls this."""
        return self.create_user(email, username, password, role=Role.SUPER_ADMIN, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        """Return the user with the email, ignoring case."""
        return self.get(email=(username or "").lower())

    def active_user(self, **fields: Any) -> "User | None":
        """Return the active user with these unique fields, or None."""
        return self.filter(is_active=True, **fields).first()

    def locked(self, now: datetime | None = None) -> "models.QuerySet[User]":
        """Return the users with an active staff lock."""
        return self.filter(locked_until__gt=now or timezone.now())

    def with_new_epoch(self, since: datetime) -> "models.QuerySet[User]":
        """Return the users whose tokens were all ended after `since`."""
        return self.filter(token_epoch_at__gt=since)


class User(AbstractBaseUser):
    """A person with an account, whose permissions depend only on the role."""

    user_id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = models.EmailField(unique=True)
    username = models.CharField(max_length=50, unique=True, validators=[username_validator])
    first_name = models.CharField(max_length=100, blank=True)
    last_name = models.CharField(max_length=100, blank=True)
    role = models.CharField(max_length=20, choices=role_choices, default=Role.USER)
    is_active = models.BooleanField(default=True)
    email_verified = models.BooleanField(default=False)
    hardware_wallet_enabled = models.BooleanField(default=False)
    hardware_wallet_address = models.CharField(max_length=34, blank=True)
    totp_enabled = models.BooleanField(default=False)
    totp_secret = models.CharField(max_length=255, blank=True, editable=False)  # encrypted
    totp_last_step = models.BigIntegerField(default=0, editable=False)  # a step works once (RFC 6238, section 5.2)
    login_attempts = models.PositiveIntegerField(default=0, editable=False)  # failures since the last login
    locked_until = models.DateTimeField(null=True, blank=True, db_index=True)
    lock_reason = models.CharField(max_length=200, blank=True)
    locked_by = models.CharField(max_length=254, blank=True)
    token_epoch = models.PositiveIntegerField(default=0, editable=False)  # tokens of an earlier epoch are invalid
    token_epoch_at = models.DateTimeField(null=True, blank=True, editable=False, db_index=True)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = ["username"]

    class Meta:
        ordering = ["-created_at"]
        # MongoDB cannot look up rows by its unique indexes, which are partial: lucid_gateway/tests/test_indexes.py.
        indexes = [
            models.Index(fields=["user_id"], name="user_key"),
            models.Index(fields=["email"], name="user_email"),
            models.Index(fields=["username"], name="user_username"),
            # Lists are sorted by time and then by key; without the key in the index, MongoDB would sort all rows.
            models.Index(fields=["created_at", "user_id"], name="user_by_creation"),
            # Filtered by one of these, too: with an index of the value alone, SQLite would sort all rows that have it.
            models.Index(fields=["role", "created_at", "user_id"], name="user_by_role"),
            models.Index(fields=["is_active", "created_at", "user_id"], name="user_by_activity"),
            models.Index(fields=["totp_enabled", "created_at", "user_id"], name="user_by_totp"),
            models.Index(fields=["hardware_wallet_enabled", "created_at", "user_id"], name="user_by_wallet"),
        ]

    def __str__(self) -> str:
        return self.email

    def clean(self) -> None:
        """Store the email in lower case, whichever form it was entered into."""
        super().clean()
        self.email = self.email.lower()

    @property
    def is_staff(self) -> bool:
        """Whether the user may use the Django admin; a lock ends that immediately."""
        return self.role in STAFF and not self.is_locked

    @property
    def has_second_factor(self) -> bool:
        return self.totp_enabled or self.hardware_wallet_enabled

    @property
    def is_superuser(self) -> bool:
        return self.role == Role.SUPER_ADMIN

    @property
    def is_locked(self) -> bool:
        """Whether a staff lock is active now."""
        return self.locked_until is not None and self.locked_until > timezone.now()

    def get_session_auth_hash(self) -> str:
        """Bind admin sessions to the password and the epoch, so that ending all tokens ends them, too."""
        bound_to = f"{self.password} {self.token_epoch}"
        return salted_hmac("accounts.User.session", bound_to, algorithm="sha256").hexdigest()

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        """Yield nothing: after a change of SECRET_KEY, staff must sign in again."""
        yield from ()

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Return whether the role allows the action: admins view and change, super admins also add and delete."""
        if not self.has_module_perms(""):
            return False
        action = perm.rpartition(".")[2].partition("_")[0]
        return self.is_superuser or action in ("view", "change")

    def has_perms(self, perms: Any, obj: Any = None) -> bool:
        """Return whether the user has all of the permissions."""
        return all(self.has_perm(perm, obj) for perm in perms)

    def has_module_perms(self, app_label: str) -> bool:
        """Return whether the admin shows the app to the user."""
        return self.is_active and self.is_staff
