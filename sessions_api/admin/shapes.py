"""JSON for people, and JSON from people."""

import json
from typing import Any

MAX_DEPTH = 20


def as_json(value: Any) -> str:
    """Return a JSON value with an indent."""
    return json.dumps(value, ensure_ascii=False, indent=2) if value else ""


def attributes_of(text: str) -> dict[str, Any]:
    """Return the attributes that a text gives as a JSON object, or as lines such as `user.age = 18`.

    A value in a line is JSON or, if it is none, a text. Raises ValueError with a sentence for people.
    """
    text = text.strip()
    if not text.startswith("{"):
        return attributes_in_lines(text.splitlines())
    try:
        found: dict[str, Any] = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError("This is not a JSON object.") from error
    return found


def attributes_in_lines(lines: list[str]) -> dict[str, Any]:
    """Return the attributes; a dot in a name leads into a map."""
    found: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise ValueError(f"Line {number} is not of the form name = value.")
        *maps, last = name.strip().split(".")
        if len(maps) > MAX_DEPTH:
            raise ValueError(f"Line {number} has more than {MAX_DEPTH} dots in its name.")
        target = found
        for each in maps:
            target = target.setdefault(each, {})
            if not isinstance(target, dict):
                raise ValueError(f"Line {number} uses {each} as a map, but it has a value.")  # noqa: TRY004  # of the text
        target[last] = value_of(value.strip())
    return found


def value_of(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return text


def refuse_constant(name: str) -> Any:
    """Refuse NaN and infinities, which Python reads but JSON does not have."""
    raise ValueError(name)
