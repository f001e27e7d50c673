"""Conditions of trust policies: a small part of CEL, the Common Expression Language (docs/trust-policies.md).

The grammar has no loops, no arithmetic, no regular expressions and five functions, so that a condition costs at most
its length times the size of what it is held against. Nothing else imports lark, which parses and finds the errors.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput, v_args

from sessions_api.comparisons import (
    MAX_LIST,
    ORDERS,
    TEXT_METHODS,
    Context,
    Node,
    Undecided,
    contained,
    either,
    ordered,
    same,
    size,
    tested,
    truth,
)
from sessions_api.turns import give_way

MAX_LENGTH = 1000
MAX_NESTING = 16
KEPT = 128  # parsed conditions in a process

GRAMMAR = r"""
?any_of: all_of ("||" all_of)*
?all_of: relation ("&&" relation)*
?relation: unary | unary COMPARED unary -> compared | unary "in" unary -> contained
?unary: member | NOT+ member -> negated
?member: atom
       | member "." NAME                      -> field
       | member "[" (TEXT | WHOLE) "]"        -> item
       | member "." NAME "(" [any_of] ")"     -> method
?atom: literal | list
     | NAME                                   -> variable
     | NAME "(" any_of ")"                    -> function
     | "(" any_of ")"
list: LSQB [literal ("," literal)*] "]"
literal: TEXT | WHOLE | DECIMAL | TRUE | FALSE | NULL

COMPARED: "==" | "!=" | "<=" | ">=" | "<" | ">"
NOT: "!"
LSQB: "["
TRUE: "true"
FALSE: "false"
NULL: "null"
NAME: /[A-Za-z_][A-Za-z0-9_]*/
DECIMAL.2: /-?[0-9]{1,15}\.[0-9]{1,15}(?![0-9A-Za-z_])/
WHOLE.1: /-?[0-9]{1,15}(?![0-9A-Za-z_.])/
TEXT: /"(?:[^"\\\r\n]|\\["'\\nrt])*"|'(?:[^'\\\r\n]|\\["'\\nrt])*'/
%ignore /[ \t\r\n\f]+/
"""
BRACKETS = re.compile(r""""(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?|[()]""", re.DOTALL)
ESCAPES: Mapping[str, str] = {"n": "\n", "r": "\r", "t": "\t"}
WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None}


class ConditionError(ValueError):
    """A text that is no condition: `position` is the offset of the first character that is wrong, from 0."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position, self.message = position, message


@dataclass(frozen=True)
class Condition:
    """A condition that was understood."""

    text: str
    node: Node

    def evaluate(self, context: Context) -> bool:
        """Return whether the condition holds for the JSON object; raise Undecided if that cannot be said."""
        return truth(self.node(context))

    def holds(self, context: Context) -> bool:
        """Return whether the condition holds; one that cannot be decided does not."""
        try:
            return self.evaluate(context)
        except Undecided:
            return False


@lru_cache(maxsize=KEPT)
def parse(text: str) -> Condition:
    """Return the condition that the text says; raise ConditionError."""
    give_way()
    if len(text) > MAX_LENGTH:
        raise ConditionError(MAX_LENGTH, f"longer than {MAX_LENGTH} characters")
    check_nesting(text)
    try:
        node: Any = PARSER.parse(text)
    except UnexpectedInput as error:
        raise unexpected(text, error) from error
    return Condition(text, node)


def check_nesting(text: str) -> None:
    """Raise ConditionError where parentheses are nested too deep, before anything recurses into them."""
    depth = 0
    for token in BRACKETS.finditer(text):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth > MAX_NESTING:
            raise ConditionError(token.start(), f"parentheses nested deeper than {MAX_NESTING}")


def unexpected(text: str, error: UnexpectedInput) -> ConditionError:
    """Return lark's error in our words."""
    token = getattr(error, "token", None)
    if token is not None and token.type == "$END":
        return ConditionError(len(text), "the condition ends too early")
    at = error.pos_in_stream or 0
    if token is None and text[at] in "\"'":
        return ConditionError(at, "a string without its end, or with an escape that is none")
    return ConditionError(at, f"unexpected {str(token) if token is not None else text[at]!r}")


# What conditions are made of.


class Path:
    """What `a.b[0]["c"]` names in a context."""

    def __init__(self, *keys: str | int) -> None:
        self.keys = keys

    def __call__(self, context: Context) -> Any:
        value: Any = context
        for depth, key in enumerate(self.keys, 1):
            if not has_key(value, key):
                raise Undecided(f"{spelled(self.keys[:depth])} is missing")
            value = value[key]
        return value

    def is_there(self, context: Context) -> bool:
        """Return whether the context has it."""
        try:
            self(context)
        except Undecided:
            return False
        return True


def has_key(value: Any, key: str | int) -> bool:
    """Return whether the value is a map with the key, or a list with the index."""
    if isinstance(key, str):
        return isinstance(value, dict) and key in value
    return isinstance(value, list) and 0 <= key < len(value)


def spelled(keys: tuple[str | int, ...]) -> str:
    """Return the path as it stands in a condition."""
    steps = [f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]" for key in keys]
    return "".join(steps).removeprefix(".")


@dataclass(frozen=True)
class Value:
    """A literal."""

    value: Any

    def __call__(self, context: Context) -> Any:
        return self.value


@v_args(inline=True)
class Builder(Transformer[Token, Node]):
    """Makes of each part of the grammar the function that tells its value in a context; the methods are its rules."""

    def literal(self, token: Token) -> Value:
        """Return the value of a literal."""
        match token.type:
            case "TEXT":
                return Value(re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), token[1:-1]))
            case "WHOLE":
                return Value(int(token))
            case "DECIMAL":
                return Value(float(token))
        return Value(WORDS[token])

    def list(self, bracket: Token, *values: Value | None) -> Value:
        """Return a list of literals."""
        if len(values) > MAX_LIST:
            raise ConditionError(start(bracket), f"a list has at most {MAX_LIST} entries")
        return Value([literal.value for literal in values if literal is not None])

    def variable(self, name: Token) -> Path:
        """Return what the context has under a name."""
        return Path(str(name))

    def field(self, of: Node, name: Token) -> Path:
        """Return what is below a path."""
        return Path(*path(of, name).keys, str(name))

    def item(self, of: Node, key: Token) -> Path:
        """Return what a list has at an index, or a map under any key."""
        return Path(*path(of, key).keys, self.literal(key).value)

    def function(self, name: Token, argument: Node) -> Node:
        """Return the one function that there is: has(path)."""
        if name != "has":
            raise ConditionError(start(name), f"there is no function {name}")
        return path(argument, name).is_there

    def method(self, of: Node, name: Token, argument: Node | None) -> Node:
        """Return a method of a string or a list."""
        if name == "size" and argument is None:
            return lambda context: size(of(context))
        if name not in TEXT_METHODS or argument is None:
            arguments = "no argument" if argument is None else "an argument"
            raise ConditionError(start(name), f"there is no method {name} with {arguments}")
        return lambda context: tested(name, of(context), argument(context))

    def negated(self, *parts: Any) -> Node:
        """Return the opposite, or for an even number of signs the value itself."""
        node, even = parts[-1], len(parts) % 2 == 1
        return lambda context: truth(node(context)) is even

    def compared(self, left: Node, sign: Token, right: Node) -> Node:
        """Return a comparison."""
        if sign in ORDERS:
            return lambda context: ordered(sign, left(context), right(context))
        return lambda context: same(left(context), right(context)) is (sign == "==")

    def contained(self, value: Node, container: Node) -> Node:
        """Return whether something is in a list or a map."""
        return lambda context: contained(value(context), container(context))

    def all_of(self, *nodes: Node) -> Node:
        """Return whether all hold."""
        return lambda context: either(nodes, context, False)

    def any_of(self, *nodes: Node) -> Node:
        """Return whether one holds."""
        return lambda context: either(nodes, context, True)


def path(node: Node, token: Token) -> Path:
    """Return the node if it is a path; raise ConditionError at the token."""
    if not isinstance(node, Path):
        raise ConditionError(start(token), "only names, and what is below them, can stand here")
    return node


def start(token: Token) -> int:
    """Return the token's offset in the condition."""
    return token.start_pos or 0


PARSER = Lark(GRAMMAR, start="any_of", parser="lalr", transformer=Builder(), maybe_placeholders=True)
