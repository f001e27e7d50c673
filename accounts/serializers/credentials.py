"""The fields of requests and answers about second factors and API keys."""

from datetime import datetime
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from accounts.factors.tron_address import is_address
from accounts.models import ApiKey
from lucid_gateway.api.fields import ShortList, SixDigits, TimestampField
from lucid_gateway.policy.roles import PERMISSIONS, Role

ALL_PERMISSIONS = sorted(PERMISSIONS[Role.SUPER_ADMIN])


class EnrolmentSerializer(serializers.Serializer[None]):
    """The answer to POST /auth/totp."""

    secret = serializers.CharField(help_text="Base32, for manual entry into the app")
    otpauth_url = serializers.CharField()
    qr_code = serializers.CharField(help_text="The URL as a QR code: a data URI with an SVG image")


class TotpSerializer(serializers.Serializer[None]):
    """POST /auth/totp/confirm."""

    totp = SixDigits()


class RecoveryCodesSerializer(serializers.Serializer[None]):
    """The answer that shows new recovery codes, which cannot be read again."""

    recovery_codes = serializers.ListField(child=serializers.CharField(), help_text="Empty if unused codes exist")


class SecondFactorSerializer(serializers.Serializer[None]):
    """DELETE /auth/totp: a code of the app, or a recovery code in its place."""

    totp = SixDigits(required=False)
    recovery_code = serializers.CharField(max_length=40, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Require exactly one of the two fields."""
        if len(attrs) != 1:
            raise serializers.ValidationError({"totp": "Give either a TOTP code or a recovery code."}, code="required")
        return attrs


class RecoveryCodeSerializer(serializers.Serializer[None]):
    """DELETE /auth/hardware-wallet."""

    recovery_code = serializers.CharField(max_length=40)


class WalletSerializer(serializers.Serializer[None]):
    """POST /auth/hardware-wallet."""

    address = serializers.CharField(max_length=34, help_text="A TRON address")

    def validate_address(self, address: str) -> str:
        """Require a valid address, including its checksum."""
        if not is_address(address):
            raise serializers.ValidationError("Not a TRON address.", code="invalid")
        return address


class WalletChallengeSerializer(serializers.Serializer[None]):
    """The answer to POST /auth/hardware-wallet."""

    challenge = serializers.CharField(help_text="The text to sign as a TRON message, version 2")
    expires_in = serializers.IntegerField(help_text="Seconds")


class SignatureSerializer(serializers.Serializer[None]):
    """POST /auth/hardware-wallet/confirm."""

    signature = serializers.CharField(max_length=140, help_text="65 bytes in hexadecimal digits")


class ApiKeySerializer(serializers.ModelSerializer[ApiKey]):
    """An API key without its secret."""

    permissions = serializers.ListField(child=serializers.CharField())
    suspended_at = serializers.DateTimeField(
        read_only=True, allow_null=True, help_text="If set, the key is refused until an operator confirms it"
    )

    class Meta:
        model = ApiKey
        fields: tuple[str, ...] = (
            "key_id", "name", "permissions", "created_at", "expires_at", "last_used_at", "suspended_at",
        )  # fmt: skip
        read_only_fields = fields


class CreatedApiKeySerializer(ApiKeySerializer):
    """The answer to POST /users/me/api-keys."""

    api_key = serializers.CharField(
        allow_null=True, help_text="The key, shown only once; null when the answer is replayed (Idempotency-Key)"
    )

    class Meta(ApiKeySerializer.Meta):
        fields = (*ApiKeySerializer.Meta.fields, "api_key")
        read_only_fields = fields


class ApiKeysSerializer(serializers.Serializer[None]):
    """The answer to GET /users/me/api-keys."""

    api_keys = ApiKeySerializer(many=True)


class NewApiKeySerializer(serializers.Serializer[None]):
    """POST /users/me/api-keys."""

    name = serializers.CharField(max_length=100)
    permissions = ShortList(
        child=serializers.ChoiceField(ALL_PERMISSIONS), min_length=1, max_length=len(ALL_PERMISSIONS),
        help_text="A subset of the owner's",
    )  # fmt: skip
    expires_at = TimestampField(required=False, allow_null=True, default=None)

    def validate_expires_at(self, expires_at: datetime | None) -> datetime | None:
        """Refuse a time in the past."""
        if expires_at is not None and expires_at <= timezone.now():
            raise serializers.ValidationError("This time is in the past.", code="invalid_date")
        return expires_at

    def validate_permissions(self, permissions: list[str]) -> list[str]:
        """Refuse permissions that the owner lacks."""
        missing = sorted(set(permissions) - self.context["permissions"])
        if missing:
            text = f"You do not have these permissions: {', '.join(missing)}."
            raise serializers.ValidationError(text, code="invalid_choice")
        return permissions
