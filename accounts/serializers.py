"""The shapes of the account endpoints' requests and answers."""

from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.core.validators import EmailValidator
from rest_framework import serializers

from accounts.models import User, username_validator


class EmailField(serializers.CharField):
    """An email address, in lower case."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=254, **kwargs)
        self.validators.append(EmailValidator(code="invalid_email"))

    def to_internal_value(self, data: Any) -> str:
        """Return the address as it is stored."""
        text: str = super().to_internal_value(data)
        return text.lower()


class LoginSerializer(serializers.Serializer[None]):
    """POST /auth/login."""

    email = EmailField()


class VerifySerializer(serializers.Serializer[None]):
    """POST /auth/verify."""

    email = EmailField()
    code = serializers.RegexField(r"\A[0-9]{6}\Z", help_text="The six digits of the mail")


class RefreshSerializer(serializers.Serializer[None]):
    """POST /auth/refresh."""

    refresh_token = serializers.CharField(max_length=4096)


class LogoutSerializer(serializers.Serializer[None]):
    """POST /auth/logout."""

    refresh_token = serializers.CharField(
        max_length=4096, required=False, help_text="Also ends the login that this refresh token belongs to"
    )
    everywhere = serializers.BooleanField(default=False, help_text="Ends all of the caller's logins")


class MessageSerializer(serializers.Serializer[None]):
    """A plain answer."""

    message = serializers.CharField()


class LoginStartedSerializer(MessageSerializer):
    """The answer to POST /auth/login, the same for every address."""

    expires_in = serializers.IntegerField(help_text="Seconds for which the code works")


class RegistrationSerializer(serializers.ModelSerializer[User]):
    """POST /users."""

    email = EmailField()
    username = serializers.CharField(validators=[username_validator])
    password = serializers.CharField(max_length=1024, write_only=True, trim_whitespace=False)

    class Meta:
        model = User
        fields = ("email", "username", "password", "first_name", "last_name")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Check the password against the other fields, too."""
        candidate = User(**{name: value for name, value in attrs.items() if name != "password"})
        try:
            validate_password(attrs["password"], candidate)
        except DjangoValidationError as error:
            raise serializers.ValidationError({"password": error.messages}, code="weak_password") from error
        return attrs


class UserSerializer(serializers.ModelSerializer[User]):
    """A user as the API shows them."""

    class Meta:
        model = User
        fields = (
            "user_id", "email", "username", "first_name", "last_name", "role", "created_at", "updated_at",
            "last_login", "hardware_wallet_enabled", "totp_enabled", "email_verified",
        )  # fmt: skip
        read_only_fields = fields


class TokensSerializer(serializers.Serializer[None]):
    """The answer to a login or a refresh."""

    access_token = serializers.CharField()
    refresh_token = serializers.CharField()
    token_type = serializers.CharField(default="Bearer")
    expires_in = serializers.IntegerField(help_text="Seconds that the access token lives")
    user = UserSerializer()
