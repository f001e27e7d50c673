"""Strict types as in the OpenAPI document: DRF alone would accept 5 as a text, "5" as a number and "on" as true."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from rest_framework import serializers

Field = serializers.Field[Any, Any, Any, Any]
Rules = Mapping[type[Field], Callable[[Any], bool]]


class Mistyped:
    """Replaces a value of the wrong type; each DRF field refuses it with its own error."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:
        return repr(self.value)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_integer(value: Any) -> bool:
    """Return whether the value is an integer in JSON Schema: 5.0 is one, true is not."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


IN_A_BODY: Rules = {
    serializers.BooleanField: lambda value: isinstance(value, bool),
    serializers.IntegerField: is_integer,
    serializers.UUIDField: is_text,
    serializers.ChoiceField: is_text,
    serializers.CharField: is_text,
}
IN_A_QUERY: Rules = {
    serializers.BooleanField: lambda value: value in ("true", "false"),
    serializers.IntegerField: lambda value: re.fullmatch(r"-?[0-9]+", value) is not None,
}


def typed(field: Field | None, value: Any, rules: Rules) -> Any:
    """Return the value with Mistyped in place of each nested value that does not have its field's type.

    A value that is null, empty or of a shape that DRF refuses anyway is kept.
    """
    if value is None or value == "":
        return value
    if isinstance(field, serializers.Serializer):
        return typed_fields(field, value, rules) if isinstance(value, Mapping) else value
    if isinstance(field, serializers.ListField | serializers.ListSerializer):
        return [typed(field.child, item, rules) for item in value] if isinstance(value, list) else value
    is_valid = all(accepts(value) for kind, accepts in rules.items() if isinstance(field, kind))
    return value if is_valid else Mistyped(value)


def typed_fields(serializer: "serializers.Serializer[Any]", data: Any, rules: Rules) -> Any:
    """Return a copy of a serializer's data, a dict or a QueryDict, with `typed` applied to each field's value."""
    copy = data.copy()
    for name, field in serializer.fields.items():
        if name in data:
            copy[name] = typed(field, data[name], rules)
    return copy
