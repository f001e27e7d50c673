"""Fields that several serializers share."""

import json
import uuid
from collections.abc import Iterator
from typing import Any, NoReturn

from rest_framework import serializers

MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_KEYS = 100
MAX_INT64 = 2**63 - 1  # BSON, which MongoDB stores, has no larger integers


class Id(serializers.UUIDField):
    """A UUID as text. Any other value is an invalid UUID (LUCID_ERR_1005), where DRF would accept an integer."""

    def to_internal_value(self, data: Any) -> uuid.UUID:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)

    def fail(self, key: str, **facts: Any) -> NoReturn:
        code = key if key in ("required", "null") else "invalid_uuid"
        raise serializers.ValidationError(self.error_messages[key].format(**facts), code=code)


class Metadata(serializers.DictField):
    """A JSON object that the client defines: up to 16 KiB as compact UTF-8 and 100 keys on all levels together.

    It must not hold what one of the databases cannot store: keys with NUL, integers over 64 bits.
    """

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("not_a_dict", input_type=type(data).__name__)
        if len(json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()) > MAX_METADATA_BYTES:
            raise serializers.ValidationError(f"Must have at most {MAX_METADATA_BYTES} bytes.", code="max_length")
        keys = [key for inner in nested_values(data) if isinstance(inner, dict) for key in inner]
        if len(keys) > MAX_METADATA_KEYS:
            raise serializers.ValidationError(f"Must have at most {MAX_METADATA_KEYS} keys.", code="max_length")
        if any("\0" in key for key in keys):
            raise serializers.ValidationError("A key contains a NUL character.", code="null_characters_not_allowed")
        if any(isinstance(inner, int) and not -MAX_INT64 <= inner <= MAX_INT64 for inner in nested_values(data)):
            raise serializers.ValidationError("An integer exceeds 64 bits.", code="max_value")
        return data


def nested_values(value: Any) -> Iterator[Any]:
    """Yield the JSON value and all values inside it. The recursion is safe: the parser limits the depth."""
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from nested_values(each)
