"""Fields that several shapes share."""

import json
import uuid
from collections.abc import Iterator
from typing import Any, NoReturn

from rest_framework import serializers

MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_KEYS = 100
LARGEST = 2**63 - 1  # of a whole number in BSON


class Id(serializers.UUIDField):
    """A UUID as text; whatever else it is, it is no UUID (LUCID_ERR_1005)."""

    def to_internal_value(self, data: Any) -> uuid.UUID:
        """Return the UUID."""
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)

    def fail(self, key: str, **facts: Any) -> NoReturn:
        """Raise that this is no UUID."""
        code = key if key in ("required", "null") else "invalid_uuid"
        raise serializers.ValidationError(self.error_messages[key].format(**facts), code=code)


class Metadata(serializers.DictField):
    """A JSON object of the client's own: up to 16 KiB as compact UTF-8 and 100 keys in all, as every store keeps it."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """Return the object; raise ValidationError if it is none, too large, or has what a store cannot keep."""
        if not isinstance(data, dict):
            self.fail("not_a_dict", input_type=type(data).__name__)
        if len(json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
            raise serializers.ValidationError(f"More than {MAX_METADATA_BYTES} bytes.", code="max_length")
        keys = [key for inner in within(data) if isinstance(inner, dict) for key in inner]
        if len(keys) > MAX_METADATA_KEYS:
            raise serializers.ValidationError(f"More than {MAX_METADATA_KEYS} keys.", code="max_length")
        if any("\0" in key for key in keys):
            raise serializers.ValidationError("A key holds a NUL.", code="null_characters_not_allowed")
        if any(isinstance(inner, int) and not -LARGEST <= inner <= LARGEST for inner in within(data)):
            raise serializers.ValidationError("A whole number over 64 bits.", code="max_value")
        return data


def within(value: Any) -> Iterator[Any]:
    """Yield the JSON value and all values inside it; its depth was limited by the parser."""
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from within(each)
