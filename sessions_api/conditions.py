"""Conditions of trust policies: a small subset of CEL, the Common Expression Language (docs/trust-policies.md).

The grammar has no loops, no arithmetic, no regular expressions and only five functions, so that evaluating a condition
costs at most its length times the size of the context. Only this module imports lark, which parses conditions.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput, v_args

from sessions_api.comparisons import (
    MAX_LIST,
    ORDERS,
    TEXT_METHODS,
    Context,
    Node,
    Undecided,
    apply_text_method,
    contained,
    ordered,
    same,
    short_circuit,
    size,
    truth,
)
from sessions_api.cooperation import let_others_run

MAX_LENGTH = 1000
MAX_NESTING = 16
CACHE_SIZE = 128  # parsed conditions per process

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
    """An invalid condition; `position` is the offset of the first wrong character, from 0."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position, self.message = position, message


@dataclass(frozen=True)
class Condition:
    """A parsed condition."""

    text: str
    node: Node

    def evaluate(self, context: Context) -> bool:
        """Return whether the condition holds for the JSON object; raise Undecided if that cannot be decided."""
        return truth(self.node(context))

    def holds(self, context: Context) -> bool:
        """Return whether the condition holds; an undecided one does not."""
        try:
            return self.evaluate(context)
        except Undecided:
            return False


@lru_cache(maxsize=CACHE_SIZE)
def parse(text: str) -> Condition:
    """Parse the text; raise ConditionError if it is no valid condition."""
    let_others_run()
    if len(text) > MAX_LENGTH:
        raise ConditionError(MAX_LENGTH, f"longer than {MAX_LENGTH} characters")
    check_nesting(text)
    try:
        node: Any = parser().parse(text)
    except UnexpectedInput as error:
        raise unexpected(text, error) from error
    return Condition(text, node)


def check_nesting(text: str) -> None:
    """Raise ConditionError if parentheses are nested too deep, before any code recurses into them."""
    depth = 0
    for token in BRACKETS.finditer(text):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth > MAX_NESTING:
            raise ConditionError(token.start(), f"parentheses nested deeper than {MAX_NESTING}")


def unexpected(text: str, error: UnexpectedInput) -> ConditionError:
    """Translate lark's error into a message for the author of the condition."""
    token = getattr(error, "token", None)
    if token is not None and token.type == "$END":
        return ConditionError(len(text), "unexpected end of the condition")
    at = error.pos_in_stream or 0
    if token is None and text[at] in "\"'":
        return ConditionError(at, "unterminated string or invalid escape")
    return ConditionError(at, f"unexpected {str(token) if token is not None else text[at]!r}")


# The nodes of a parsed condition.


class Path:
    """A path such as `a.b[0]["c"]`: a call returns its value in the context, or raises Undecided if it is missing."""

    def __init__(self, *keys: str | int) -> None:
        self.keys = keys

    def __call__(self, context: Context) -> Any:
        value: Any = context
        for depth, key in enumerate(self.keys, 1):
            if not has_key(value, key):
                raise Undecided(f"{path_text(self.keys[:depth])} is missing")
            value = value[key]
        return value

    def exists(self, context: Context) -> bool:
        """Return whether the context has a value at the path."""
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


def path_text(keys: tuple[str | int, ...]) -> str:
    """Return the path in the syntax of conditions."""
    steps = [f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]" for key in keys]
    return "".join(steps).removeprefix(".")


@dataclass(frozen=True)
class Value:
    value: Any

    def __call__(self, context: Context) -> Any:
        return self.value


@v_args(inline=True)
class Builder(Transformer[Token, Node]):
    """Turns each part of a condition into a function from the context to a value. Lark calls the method that has the
    name of the grammar rule.
    """

    def literal(self, token: Token) -> Value:
        match token.type:
            case "TEXT":
                return Value(re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), token[1:-1]))
            case "WHOLE":
                return Value(int(token))
            case "DECIMAL":
                return Value(float(token))
        return Value(WORDS[token])

    def list(self, bracket: Token, *values: Value | None) -> Value:
        if len(values) > MAX_LIST:
            raise ConditionError(start(bracket), f"a list has at most {MAX_LIST} entries")
        return Value([literal.value for literal in values if literal is not None])

    def variable(self, name: Token) -> Path:
        return Path(str(name))

    def field(self, of: Node, name: Token) -> Path:
        return Path(*path(of, name).keys, str(name))

    def item(self, of: Node, key: Token) -> Path:
        """Return the path to a list's entry at an index, or to a map's value under a key that is no name."""
        return Path(*path(of, key).keys, self.literal(key).value)

    def function(self, name: Token, argument: Node) -> Node:
        """Return the test of has(path), the only function."""
        if name != "has":
            raise ConditionError(start(name), f"unknown function {name}")
        return path(argument, name).exists

    def method(self, of: Node, name: Token, argument: Node | None) -> Node:
        if name == "size" and argument is None:
            return lambda context: size(of(context))
        if name not in TEXT_METHODS or argument is None:
            arguments = "no argument" if argument is None else "an argument"
            raise ConditionError(start(name), f"unknown method {name} with {arguments}")
        return lambda context: apply_text_method(name, of(context), argument(context))

    def negated(self, *parts: Any) -> Node:
        """Negate the last part; an even number of signs cancels out."""
        node, even = parts[-1], len(parts) % 2 == 1
        return lambda context: truth(node(context)) is even

    def compared(self, left: Node, sign: Token, right: Node) -> Node:
        if sign in ORDERS:
            return lambda context: ordered(sign, left(context), right(context))
        return lambda context: same(left(context), right(context)) is (sign == "==")

    def contained(self, value: Node, container: Node) -> Node:
        return lambda context: contained(value(context), container(context))

    def all_of(self, *nodes: Node) -> Node:
        return lambda context: short_circuit(nodes, context, False)

    def any_of(self, *nodes: Node) -> Node:
        return lambda context: short_circuit(nodes, context, True)


def path(node: Node, token: Token) -> Path:
    """Return the node if it is a path; raise ConditionError at the token for any other."""
    if not isinstance(node, Path):
        raise ConditionError(start(token), "expected a path such as user.role")
    return node


def start(token: Token) -> int:
    return token.start_pos or 0


@cache
def parser() -> Lark:
    """Return the parser, made on first use: it takes 1.3 MiB, and few workers parse a condition."""
    return Lark(GRAMMAR, start="any_of", parser="lalr", transformer=Builder(), maybe_placeholders=True)
