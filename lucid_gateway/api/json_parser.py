"""A JSON parser for hostile clients: RFC 8259 with limits, in time that is linear in the size."""

import json
import math
import re
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from lucid_gateway.policy.errors import UnsupportedMediaType

MAX_DEPTH = 32
MAX_KEYS = 10_000
MAX_TOKENS = 32_000  # twice the number in the largest useful body
MAX_NUMBER_LENGTH = 64
# Possessive, and with an optional closing quote: an unterminated string is one token, too, so nothing is scanned twice.
STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+'
# Each alternative begins with a literal, so that `re` quickly skips other characters.
TOKENS = re.compile(rf"{STRING}|,|\[|\]|\{{|\}}", re.DOTALL)


class StrictJSONParser(BaseParser):
    """Parses a JSON object; raises ParseError (400 LUCID_ERR_1009) for anything else."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the object in the stream, whose size BodyLimitMiddleware has limited.

        Raises UnsupportedMediaType for an encoded body, such as gzip (RFC 9110, section 15.5.16).
        """
        if parser_context and is_encoded(parser_context["request"].headers.get("Content-Encoding", "")):
            # The header says that the problem is the encoding, not the media type.
            raise UnsupportedMediaType(
                "Send the body without Content-Encoding", headers={"Accept-Encoding": "identity"}
            )
        if media_type and not is_utf8(media_type):
            raise ParseError("JSON must be UTF-8")
        return parse_object(stream.read())


def is_encoded(content_encoding: str) -> bool:
    """Return whether the field names an encoding, such as gzip."""
    return content_encoding.strip().lower() not in ("", "identity")


def is_utf8(media_type: str) -> bool:
    """Return whether the media type has no charset or the charset UTF-8."""
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", media_type, re.IGNORECASE)
    return charset is None or charset[1].lower() in ("utf-8", "utf8")


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in the body; raise ParseError, whose text says what is wrong."""
    try:
        text = body.decode("utf-8")
        check_shape(text)
        value = json.loads(
            text,
            object_pairs_hook=KeyCounter(),
            parse_constant=refuse_constant,
            parse_float=finite_float,
            parse_int=short_int,
        )
        if "\\u" in text:
            refuse_lone_surrogates(value)
    except ParseError:
        raise
    except UnicodeError as error:
        raise ParseError("JSON must be UTF-8") from error
    except ValueError as error:
        raise ParseError(f"Malformed JSON: {error}") from error
    if not isinstance(value, dict):
        raise ParseError("JSON must be an object")
    return value


def refuse_lone_surrogates(value: Any) -> None:
    """Raise UnicodeError for half a surrogate pair, such as "\\ud800", which neither databases nor clusters accept."""
    json.dumps(value, ensure_ascii=False).encode()


def check_shape(text: str) -> None:
    """Raise ParseError for a text with too deep nesting or too many parts, before the real parser builds them."""
    depth = 0
    for count, token in enumerate(TOKENS.finditer(text), 1):
        if count > MAX_TOKENS:
            raise ParseError(f"JSON has more than {MAX_TOKENS} strings, brackets and commas")
        first = text[token.start()]
        if first in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise ParseError(f"JSON is nested deeper than {MAX_DEPTH}")
        elif first in "]}":
            depth -= 1


class KeyCounter:
    """Builds the objects of one document; raises ParseError for a duplicate key, and for too many keys in total."""

    def __init__(self) -> None:
        self.keys = 0

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self.keys += len(pairs)
        if self.keys > MAX_KEYS:
            raise ParseError(f"JSON has more than {MAX_KEYS} keys")
        built = dict(pairs)
        if len(built) != len(pairs):
            raise ParseError("JSON has a duplicate key")
        return built


def refuse_constant(name: str) -> None:
    """Raise ParseError: Python would accept NaN and Infinity, which are not JSON."""
    raise ParseError(f"JSON does not allow {name}")


def short_int(text: str) -> int:
    """Return the integer; raise ParseError for a very long one, which would take long to convert."""
    return int(refuse_long(text))


def finite_float(text: str) -> float:
    """Return the number; raise ParseError for one that becomes infinity."""
    value = float(refuse_long(text))
    if not math.isfinite(value):
        raise ParseError("JSON has a number out of range")
    return value


def refuse_long(number: str) -> str:
    """Return the number's text; raise ParseError if it is too long."""
    if len(number) > MAX_NUMBER_LENGTH:
        raise ParseError(f"JSON has a number longer than {MAX_NUMBER_LENGTH} characters")
    return number
