"""Values are taken in the types of the OpenAPI document: DRF takes 5 for a text, "5" for a number, "on" for true."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from rest_framework import serializers

Field = serializers.Field[Any, Any, Any, Any]
Rules = Mapping[type[Field], Callable[[Any], bool]]


class Mistyped:
    """Stands for a value of another type: each field of DRF refuses it with its own error."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:
        return repr(self.value)


def is_text(value: Any) -> bool:
    """Return whether the value is a JSON string."""
    return isinstance(value, str)


def is_whole(value: Any) -> bool:
    """Return whether the value is an integer as JSON Schema has it: 5.0 is one, true is none."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())


IN_A_BODY: Rules = {
    serializers.BooleanField: lambda value: isinstance(value, bool),
    serializers.IntegerField: is_whole,
    serializers.UUIDField: is_text,
    serializers.ChoiceField: is_text,
    serializers.CharField: is_text,
}
IN_A_QUERY: Rules = {
    serializers.BooleanField: lambda value: value in ("true", "false"),
    serializers.IntegerField: lambda value: re.fullmatch(r"-?[0-9]+", value) is not None,
}


def typed(field: Field | None, value: Any, rules: Rules) -> Any:
    """Return the value with a Mistyped in place of each one, however deep, that is not of its field's type.

    What is null, empty or of a shape that DRF refuses anyway stays.
    """
    if value is None or value == "":
        return value
    if isinstance(field, serializers.Serializer):
        return typed_fields(field, value, rules) if isinstance(value, Mapping) else value
    if isinstance(field, serializers.ListField | serializers.ListSerializer):
        return [typed(field.child, item, rules) for item in value] if isinstance(value, list) else value
    fits = all(fits(value) for kind, fits in rules.items() if isinstance(field, kind))
    return value if fits else Mistyped(value)


def typed_fields(serializer: "serializers.Serializer[Any]", data: Any, rules: Rules) -> Any:
    """Return a copy of a serializer's data, a dict or a QueryDict, with what `typed` makes of each field's value."""
    copy = data.copy()
    for name, field in serializer.fields.items():
        if name in data:
            copy[name] = typed(field, data[name], rules)
    return copy
