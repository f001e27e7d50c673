"""Serializer fields that several apps share."""

from typing import Any, NoReturn

from django.core.validators import EmailValidator
from rest_framework import serializers

from lucid_gateway.api.pagination import RefusesEmpty


class EmailField(serializers.CharField):
    """An email address, in lower case."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=254, **kwargs)
        self.validators.append(EmailValidator(code="invalid_email"))

    def to_internal_value(self, data: Any) -> str:
        """Return the address in lower case, as it is stored."""
        text: str = super().to_internal_value(data)
        return text.lower()


class PasswordField(serializers.CharField):
    """A password, with its spaces; Django's password validators check its strength."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=1024, trim_whitespace=False, **kwargs)


class SixDigits(serializers.RegexField):
    """A code of six ASCII digits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(r"\A[0-9]{6}\Z", **kwargs)


class TimestampField(RefusesEmpty, serializers.DateTimeField):
    """A date and time (RFC 3339), in UTC unless it has an offset."""

    def fail(self, key: str, **values: Any) -> NoReturn:
        """Raise ValidationError, with the code `invalid_date` for any wrong value."""
        code = key if key in ("required", "null") else "invalid_date"
        raise serializers.ValidationError(self.error_messages[key].format(**values), code=code)


class ShortList(serializers.ListField):
    """A list of up to `max_length` items, whose length is checked before the items are."""

    def to_internal_value(self, data: Any) -> list[Any]:
        if self.max_length is not None and isinstance(data, list) and len(data) > self.max_length:
            message = self.error_messages["max_length"].format(max_length=self.max_length)
            raise serializers.ValidationError(message, code="max_length")
        items: list[Any] = super().to_internal_value(data)
        return items
