"""The JSON parser: any bytes are quickly parsed (RFC 8259) or refused with ParseError."""

import io
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import ParseError

from lucid_gateway.api.json_parser import (
    MAX_DEPTH,
    MAX_KEYS,
    MAX_NUMBER_LENGTH,
    MAX_TOKENS,
    StrictJSONParser,
    parse_object,
)

MIB = 1024 * 1024
MOST_SECONDS = 0.02  # to parse or refuse a body
text = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(10**60), 10**60) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)
json_like = st.text(st.sampled_from(list('{}[]",:\\ud8eE+-.019 \nNaInfty\u00e9')), max_size=60)


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def refusal(body: bytes) -> str:
    with pytest.raises(ParseError) as caught:
        parse_object(body)
    return str(caught.value.detail)


@given(st.dictionaries(text, values, max_size=6), st.booleans())
def test_an_object_is_parsed_as_the_standard_library_does(value: dict[str, object], ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()

    assert parse_object(body) == value


@given(st.binary() | json_like.map(str.encode) | json_like.map(lambda inner: f'{{"a":{inner}}}'.encode()))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    try:
        value = parse_object(body)
    except ParseError:
        return

    assert value == json.loads(body)
    json.dumps(value, ensure_ascii=False, allow_nan=False).encode()


def test_the_deepest_nesting_is_parsed_and_one_more_refused() -> None:
    assert parse_object(nested(MAX_DEPTH))
    assert "nested" in refusal(nested(MAX_DEPTH + 1))


def test_brackets_in_strings_are_not_nesting() -> None:
    assert parse_object(b'{"a": "' + b"[" * 100 + b'\\"' + b"{" * 100 + b'"}')


def test_leading_closing_brackets_do_not_allow_deeper_nesting() -> None:
    refusal(b"]" * 100_000 + b"[" * 100_000)


def test_the_maximum_of_keys_is_parsed_and_one_more_refused() -> None:
    objects = [{str(key): 0 for key in range(100)}] * (MAX_KEYS // 100 - 1)
    most = {"a": objects} | {str(key): 0 for key in range(99)}

    assert parse_object(json.dumps(most).encode()) == most
    assert "keys" in refusal(json.dumps(most | {"one": "more"}).encode())


@pytest.mark.parametrize("body", [b'{"a":1,"a":2}', b'{"b":{"a":1,"\\u0061":1}}'])
def test_a_duplicate_key_is_refused(body: bytes) -> None:
    assert "duplicate" in refusal(body)


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "-1E400", "1e" + "9" * 62, "9" * 65, "0." + "1" * 64]
)
def test_numbers_outside_json_or_the_float_range_are_refused(number: str) -> None:
    refusal(f'{{"a":[{number}]}}'.encode())


def test_the_longest_number_is_parsed() -> None:
    longest = "9" * MAX_NUMBER_LENGTH

    assert parse_object(f'{{"a":{longest}}}'.encode()) == {"a": int(longest)}


@pytest.mark.parametrize("value", [b'"\\ud800"', b'{"\\udc00":1}', b'["\\ud800\\ud800"]', b'"\xed\xa0\x80"'])
def test_half_a_surrogate_pair_is_refused(value: bytes) -> None:
    assert refusal(b'{"a":' + value + b"}") == "JSON must be UTF-8"


def test_a_surrogate_pair_is_one_character() -> None:
    assert parse_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


@pytest.mark.parametrize("body", [b"[]", b'"a"', b"1", b"null", b"true"])
def test_only_an_object_is_accepted(body: bytes) -> None:
    assert refusal(body) == "JSON must be an object"


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"{", b'{"a":1}x', b"{'a':1}", b'\xef\xbb\xbf{"a":1}', b'{"a":"\n"}', b'{"a":\xff}', b"{1:2}"],
)
def test_malformed_bodies_are_refused(body: bytes) -> None:
    refusal(body)


@pytest.mark.parametrize("charset", ["utf-16", "latin-1", "rot13", "nonsense"])
def test_another_charset_is_refused(charset: str) -> None:
    with pytest.raises(ParseError):
        StrictJSONParser().parse(io.BytesIO(b"{}"), f"application/json; charset={charset}")


@pytest.mark.parametrize("media_type", ["application/json", "application/json; charset=UTF-8", 'a/b; charset="utf8"'])
def test_utf_8_is_accepted(media_type: str) -> None:
    assert StrictJSONParser().parse(io.BytesIO(b"{}"), media_type) == {}


@pytest.mark.parametrize(
    "piece", [b"[", b"{", b'{"":', b"1", b"-", b'"\\', b"\\", b'"', b'""', b"[]", b"1 ", b'"\\\\', b'[1e9,"'], ids=repr
)
@pytest.mark.parametrize("start", [b"", b'{"a":', b'{"a":"'])
def test_a_mebibyte_of_anything_is_refused_quickly(start: bytes, piece: bytes) -> None:
    body = start + piece * (MIB // len(piece))

    assert min(seconds_to_refuse(body) for _ in range(3)) < 3 * MOST_SECONDS


def seconds_to_refuse(body: bytes) -> float:
    """Return the processor time, which other load on the machine hardly affects."""
    started = time.process_time()
    refusal(body)
    return time.process_time() - started


@pytest.mark.parametrize("item", ["0", "1.5", "[]", "{}", '""', "[0]", '{"a":0}', '"\\ud83d\\ude00"'])
def test_a_mebibyte_of_small_values_is_refused_before_it_is_built(item: str) -> None:
    body = f'{{"a":[{item}{f",{item}" * (MIB // (len(item) + 1) - 10)}]}}'.encode()

    assert f"more than {MAX_TOKENS}" in refusal(body)


def test_the_maximum_of_parts_is_parsed_and_one_more_refused() -> None:
    most = [0] * (MAX_TOKENS - 4)  # a key, two pairs of brackets, a comma between two items

    assert parse_object(json.dumps({"a": most}).encode()) == {"a": most}
    assert f"more than {MAX_TOKENS}" in refusal(json.dumps({"a": [*most, 0]}).encode())


def test_a_string_is_one_part_whatever_it_contains() -> None:
    text = '[{",' * MAX_TOKENS

    assert parse_object(json.dumps({"a": text}).encode()) == {"a": text}
