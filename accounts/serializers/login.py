"""The fields of requests and answers about logins, tokens and passwords."""

from typing import Any

from rest_framework import serializers

from accounts.models import IssuedToken
from accounts.serializers.users import UserSerializer
from lucid_gateway.api.fields import EmailField, PasswordField, SixDigits

MAX_TOKEN_LENGTH = 4096
FIRST_FACTORS = ("code", "token", "password")
SECOND_FACTORS = ("totp", "recovery_code", "signature")


class LoginSerializer(serializers.Serializer[None]):
    """POST /auth/login."""

    email = EmailField()
    password = PasswordField(required=False, help_text="Optional; a wrong password suppresses the mail")
    hardware_wallet = serializers.BooleanField(default=False, help_text="Whether to return a challenge for the wallet")


class LoginStartedSerializer(serializers.Serializer[None]):
    """The answer to POST /auth/login, the same for every address."""

    message = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="Seconds until the code and the link expire")
    challenge = serializers.CharField(required=False, help_text="The text to sign as a TRON message, version 2")


class VerifySerializer(serializers.Serializer[None]):
    """POST /auth/verify: one first factor, and the second factors that the account requires."""

    email = EmailField()
    code = SixDigits(required=False, help_text="The six digits from the mail")
    token = serializers.CharField(max_length=100, required=False, help_text="From the mailed link")
    password = PasswordField(required=False, help_text="Instead of the mail, for accounts with a second factor")
    totp = SixDigits(required=False, help_text="From the authenticator app")
    recovery_code = serializers.CharField(max_length=40, required=False, help_text="Instead of a lost second factor")
    signature = serializers.CharField(max_length=140, required=False, help_text="The wallet's signed challenge")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Require one first factor, at most one of TOTP and recovery code, and a second factor with a password."""
        first = [name for name in FIRST_FACTORS if name in attrs]
        if not first:
            raise serializers.ValidationError({"code": "Give a code, a token or a password."}, code="required")
        if len(first) > 1 or ("totp" in attrs and "recovery_code" in attrs):
            raise serializers.ValidationError("Give one of code, token or password, and one of totp or recovery_code.")
        if "password" in attrs and not any(name in attrs for name in SECOND_FACTORS):
            raise serializers.ValidationError({"totp": "A password login requires a second factor."}, code="required")
        return attrs


class RefreshSerializer(serializers.Serializer[None]):
    """POST /auth/refresh."""

    refresh_token = serializers.CharField(max_length=MAX_TOKEN_LENGTH)


class TokensSerializer(serializers.Serializer[None]):
    """The answer to a login or a refresh."""

    access_token = serializers.CharField()
    refresh_token = serializers.CharField()
    token_type = serializers.CharField(default="Bearer")
    expires_in = serializers.IntegerField(help_text="Seconds until the access token expires")
    user = UserSerializer()


class LogoutSerializer(serializers.Serializer[None]):
    """POST /auth/logout."""

    refresh_token = serializers.CharField(
        max_length=MAX_TOKEN_LENGTH, required=False, help_text="Also ends the login that this refresh token belongs to"
    )
    everywhere = serializers.BooleanField(default=False, help_text="Ends all of the caller's logins")


class MessageSerializer(serializers.Serializer[None]):
    """An answer that is only a message."""

    message = serializers.CharField()


class MailStartedSerializer(MessageSerializer):
    """The answer to POST /auth/password/reset, the same for every address."""

    expires_in = serializers.IntegerField(help_text="Seconds until the link expires")


class EmailSerializer(serializers.Serializer[None]):
    """POST /auth/password/reset."""

    email = EmailField()


class ResetConfirmSerializer(serializers.Serializer[None]):
    """POST /auth/password/reset/confirm."""

    token = serializers.CharField(max_length=100, help_text="From the mailed link")
    password = PasswordField()


class PasswordChangeSerializer(serializers.Serializer[None]):
    """POST /auth/password/change."""

    current_password = PasswordField()
    password = PasswordField()


class LinkTokenSerializer(serializers.Serializer[None]):
    """POST /auth/email/confirm."""

    token = serializers.CharField(max_length=100, help_text="From the mailed link")


class CallerStatusSerializer(serializers.Serializer[None]):
    """The answer to GET /auth/status."""

    authenticated = serializers.BooleanField()
    user_id = serializers.UUIDField()
    role = serializers.CharField()
    permissions = serializers.ListField(child=serializers.CharField())
    method = serializers.ChoiceField(choices=["access_token", "api_key"])
    session_id = serializers.UUIDField(allow_null=True, help_text="Id of the signed-in device; null with an API key")
    expires_at = serializers.DateTimeField(allow_null=True)


class DeviceSerializer(serializers.Serializer[IssuedToken]):
    """A signed-in device."""

    session_id = serializers.UUIDField(source="family")
    signed_in_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(source="issued_at", help_text="When the device last refreshed its tokens")
    expires_at = serializers.DateTimeField()
    address = serializers.CharField()
    user_agent = serializers.CharField()
    current = serializers.SerializerMethodField(help_text="Whether this request came from this device")

    def get_current(self, device: IssuedToken) -> bool:
        return bool(str(device.family) == self.context["family"])


class DevicesSerializer(serializers.Serializer[None]):
    """The answer to GET /auth/sessions."""

    sessions = DeviceSerializer(many=True)
