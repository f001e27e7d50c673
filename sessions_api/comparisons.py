"""The operators and methods of conditions, applied to JSON values. Their cost is linear in the size of the values."""

import operator
from collections.abc import Callable, Mapping, Sequence
from types import NoneType
from typing import Any

MAX_LIST = 100  # entries; `in` compares each of them
ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
TEXT_METHODS: Mapping[str, Callable[[str, str], bool]] = {
    "startsWith": str.startswith, "endsWith": str.endswith, "contains": str.__contains__,
}  # fmt: skip
KINDS: Mapping[type, str] = {
    NoneType: "null", bool: "bool", int: "number", float: "number", str: "string", list: "list", dict: "map",
}  # fmt: skip

Context = Mapping[str, Any]
Node = Callable[[Context], Any]


class Undecided(Exception):
    """The context lacks a value that the condition needs, or has one of the wrong type."""


def kind_of(value: Any) -> str:
    return KINDS[type(value)]


def truth(value: Any) -> bool:
    """Return the value if it is a bool; raise Undecided for any other."""
    if isinstance(value, bool):
        return value
    raise Undecided(f"expected a bool, not a {kind_of(value)}")


def comparable(left: Any, right: Any) -> bool:
    """Return whether two values can be compared: scalars of one type, or one of them is null."""
    if left is None or right is None:
        return True
    kind = KINDS[type(left)]
    return kind == KINDS[type(right)] and kind not in ("list", "map")


def same(left: Any, right: Any) -> bool:
    """Return whether two values are equal; raise Undecided if they cannot be compared."""
    if not comparable(left, right):
        raise Undecided(f"{kind_of(left)} and {kind_of(right)} cannot be compared")
    return bool(left == right)


def ordered(symbol: str, left: Any, right: Any) -> bool:
    """Return whether two numbers or two strings are in that order; raise Undecided for other types."""
    kinds = {kind_of(left), kind_of(right)}
    if kinds not in ({"number"}, {"string"}):
        raise Undecided(f"cannot compare {kind_of(left)} {symbol} {kind_of(right)}")
    return ORDERS[symbol](left, right)


def contained(value: Any, container: Any) -> bool:
    """Return whether the list has the value, or the map the key; raise Undecided if the types do not fit."""
    if isinstance(container, dict):
        if not isinstance(value, str):
            raise Undecided(f"the key of a map must be a string, not a {kind_of(value)}")
        return value in container
    if not isinstance(container, list):
        raise Undecided(f"expected a list or a map after in, not a {kind_of(container)}")
    if len(container) > MAX_LIST:
        raise Undecided(f"a list with more than {MAX_LIST} entries")
    fitting = [each for each in container if comparable(value, each)]
    if value not in fitting and len(fitting) < len(container):
        raise Undecided(f"not every entry of the list can be compared with a {kind_of(value)}")
    return value in fitting


def short_circuit(nodes: Sequence[Node], context: Context, decisive: bool) -> bool:
    """Return `decisive` if any node has that value, else its opposite; raise Undecided if an undecided node matters.

    As in CEL the order does not matter: `a || b` holds if b does, whether or not a can be decided.
    """
    doubt: Undecided | None = None
    for node in nodes:
        try:
            if truth(node(context)) is decisive:
                return decisive
        except Undecided as error:
            doubt = doubt or error
    if doubt is not None:
        raise doubt
    return not decisive


def size(value: Any) -> int:
    """Return the length of a string, list or map; raise Undecided for other types."""
    if isinstance(value, str | list | dict):
        return len(value)
    raise Undecided(f"a {kind_of(value)} has no size")


def apply_text_method(name: str, text: Any, part: Any) -> bool:
    """Apply a method from TEXT_METHODS; raise Undecided unless both values are strings."""
    if isinstance(text, str) and isinstance(part, str):
        return TEXT_METHODS[name](text, part)
    raise Undecided(f"{name} needs two strings, not {kind_of(text)} and {kind_of(part)}")
