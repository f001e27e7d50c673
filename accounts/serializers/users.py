"""The fields of requests and answers about users."""

from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from rest_framework import serializers

from accounts.models import User, username_validator
from lucid_gateway.api.fields import EmailField, PasswordField


class RegistrationSerializer(serializers.ModelSerializer[User]):
    """POST /users."""

    email = EmailField()
    username = serializers.CharField(validators=[username_validator])
    password = PasswordField(write_only=True)

    class Meta:
        model = User
        fields = ("email", "username", "password", "first_name", "last_name")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Check the password, also for similarity to the other fields."""
        candidate = User(**{name: value for name, value in attrs.items() if name != "password"})
        try:
            validate_password(attrs["password"], candidate)
        except DjangoValidationError as error:
            raise serializers.ValidationError({"password": error.messages}, code="weak_password") from error
        return attrs


class UserSerializer(serializers.ModelSerializer[User]):
    """A user, as users see them."""

    class Meta:
        model = User
        fields: tuple[str, ...] = (
            "user_id", "email", "username", "first_name", "last_name", "role", "created_at", "updated_at",
            "last_login", "hardware_wallet_enabled", "totp_enabled", "email_verified",
        )  # fmt: skip
        read_only_fields = fields


class ProfileSerializer(serializers.ModelSerializer[User]):
    """PUT and PATCH /users/me. A new email takes effect once it is confirmed from its mailbox."""

    email = EmailField()
    username = serializers.CharField(validators=[username_validator])
    current_password = PasswordField(required=False, write_only=True, help_text="Required for a new email")

    class Meta:
        model = User
        fields = ("email", "username", "first_name", "last_name", "current_password")


class ManagedUserSerializer(UserSerializer):
    """A user, as staff see them."""

    class Meta(UserSerializer.Meta):
        fields = (
            *UserSerializer.Meta.fields, "is_active", "locked_until", "lock_reason", "locked_by", "login_attempts",
            "deleted_at",
        )  # fmt: skip
        read_only_fields = fields
