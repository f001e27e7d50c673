"""Fields that several shapes share."""

from typing import Any, NoReturn

from django.core.validators import EmailValidator
from rest_framework import serializers

from lucid_gateway.api.pagination import EmptyIsWrong


class EmailField(serializers.CharField):
    """An email address, in lower case."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=254, **kwargs)
        self.validators.append(EmailValidator(code="invalid_email"))

    def to_internal_value(self, data: Any) -> str:
        """Return the address as it is stored."""
        text: str = super().to_internal_value(data)
        return text.lower()


class PasswordField(serializers.CharField):
    """A password, spaces included; its rules are checked elsewhere."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=1024, trim_whitespace=False, **kwargs)


class SixDigits(serializers.RegexField):
    """A code of six ASCII digits."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(r"\A[0-9]{6}\Z", **kwargs)


class Moment(EmptyIsWrong, serializers.DateTimeField):
    """A point in time (RFC 3339); without an offset it is UTC."""

    def fail(self, key: str, **facts: Any) -> NoReturn:
        """Raise that this is no date, whatever is wrong with it."""
        code = key if key in ("required", "null") else "invalid_date"
        raise serializers.ValidationError(self.error_messages[key].format(**facts), code=code)


class ShortList(serializers.ListField):
    """A list of up to `max_length` items, which is looked at before any of them."""

    def to_internal_value(self, data: Any) -> list[Any]:
        """Return the items; raise ValidationError."""
        most = self.max_length
        if most is not None and isinstance(data, list) and len(data) > most:
            message = self.error_messages["max_length"].format(max_length=most)
            raise serializers.ValidationError(message, code="max_length")
        items: list[Any] = super().to_internal_value(data)
        return items
