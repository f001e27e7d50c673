"""The meaning of Cache-Control, Expires, Age and Vary for the cache, for valid and invalid values."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.utils.http import http_date
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.tests.edge.lua import Lua, running_lua

MAX_SECONDS = 3600  # as in deploy/edge/lua/lucid/cache_control.lua
NOT_STORED = ("no-store", "no-cache", "private", "must-understand")
NOW = 1_700_000_000.5
ANY_VALUE = st.binary(max_size=80).map(lambda data: data.decode("latin-1"))
SECONDS = st.integers(0, 10**12)
PERMITS = st.one_of(
    SECONDS.map(lambda number: ("max-age", str(number))),
    SECONDS.map(lambda number: ("s-maxage", str(number))),
    st.sampled_from([("public", ""), ("must-revalidate", ""), ("x", '"no-store, max-age=9"'), ("immutable", "")]),
)
FORBIDS = st.sampled_from([*((name, "") for name in NOT_STORED), ("private", '"set-cookie"'), ("no-cache", '"x,y"')])
SPACE = st.sampled_from(["", " ", "\t ", " , ,"])


@pytest.fixture(scope="module")
def lua() -> Iterator[Lua]:
    with running_lua() as running:
        yield running


def headers(*fields: str) -> dict[str, Any]:
    """Return `Name: value` fields as nginx gives them to Lua."""
    found: dict[str, list[str]] = {}
    for name, _, value in (field.partition(": ") for field in fields):
        found.setdefault(name.lower(), []).append(value)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def kept_for(lua: Lua, *fields: str, default: float | None = None) -> float:
    """Return the lifetime of an answer with these fields."""
    seconds: float = lua.call("lucid.cache_control.lifetime", headers(*fields), default, NOW)
    return seconds


def written(draw: st.DrawFn, said: list[tuple[str, str]]) -> str:
    """Return the directives in a random valid spelling."""
    members = []
    for name, value in said:
        cased = draw(st.sampled_from([name, name.upper(), name.title()]))
        text = f'"{value}"' if value.isdigit() and draw(st.booleans()) else value
        members.append(draw(SPACE) + cased + (f"={text}" if value else "") + draw(SPACE))
    return ",".join(members)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        (["Cache-Control: max-age=60, s-maxage=5"], 5),
        (["Cache-Control: max-age=60", f"Expires: {http_date(NOW + 5)}"], 60),
        (["Cache-Control: public", f"Date: {http_date(NOW)}", f"Expires: {http_date(NOW + 5)}"], 5),
        ([f"Expires: {http_date(NOW - 5)}"], 0),
        (["Expires: 0"], 0),
        ([f"Expires: {http_date(NOW + 5)}", f"Expires: {http_date(NOW + 6)}"], 0),
        (["Cache-Control: max-age=1", "Cache-Control: max-age=2"], 0),
        (["Cache-Control: max-age=soon"], 0),
        (["Cache-Control: max-age=-1"], 0),
        (["Cache-Control: max-age"], 0),
        (["Cache-Control: max-age=60", "Cache-Control: No-Store"], 0),
        (['Cache-Control: max-age=60, private="x-a"'], 0),
        (['Cache-Control: max-age=60, x="private'], 0),
        (["Cache-Control: max-age=60 no-store"], 0),
        (["Cache-Control: max-age=60", "Set-Cookie: a=b"], 0),
        (["Cache-Control: max-age=60", "Content-Range: bytes 0-1/2"], 0),
        (["Pragma: no-cache"], 0),
        (["Cache-Control: max-age=" + "9" * 5000], MAX_SECONDS),
        (['Cache-Control: , ,MAX-AGE="60",', "Cache-Control: a"], 60),
        ([], 2),
        (["Cache-Control: public"], 2),
    ],
)
def test_the_cluster_sets_the_lifetime_of_an_answer(lua: Lua, fields: list[str], seconds: float) -> None:
    assert kept_for(lua, *fields, default=2) == seconds


def test_without_a_lifetime_nothing_is_stored(lua: Lua) -> None:
    assert kept_for(lua, "Cache-Control: public") == 0


@given(st.lists(ANY_VALUE, min_size=1, max_size=3), ANY_VALUE, ANY_VALUE)
@example(["\n"], "", "")
@example(['max-age=1, "'], "", "")
def test_any_bytes_give_a_lifetime_within_the_limit(lua: Lua, values: list[str], expires: str, age: str) -> None:
    fields = {"cache-control": values, "expires": expires, "age": age, "vary": expires}
    assert 0 <= lua.call("lucid.cache_control.lifetime", fields, 2, NOW) <= MAX_SECONDS
    assert lua.call("lucid.cache_control.age", fields, 0.1, NOW) >= 0.1
    lua.call("lucid.cache_control.vary", fields, True)
    lua.call("lucid.cache_control.terms", {"cache-control": values[0], "pragma": expires})


@given(st.data(), st.lists(PERMITS, max_size=4), st.lists(FORBIDS, min_size=1, max_size=2))
def test_a_prohibition_wins_in_any_position(
    lua: Lua, data: st.DataObject, permits: list[tuple[str, str]], forbids: list[tuple[str, str]]
) -> None:
    said = data.draw(st.permutations([*permits, *forbids]))
    text = data.draw(st.composite(written)(said))
    assert kept_for(lua, f"Cache-Control: {text}", default=2) == 0


@given(st.data(), st.lists(PERMITS, min_size=1, max_size=4))
def test_no_answer_is_stored_longer_than_allowed(lua: Lua, data: st.DataObject, permits: list[tuple[str, str]]) -> None:
    text = data.draw(st.composite(written)(permits))
    shared = [int(value) for name, value in permits if name == "s-maxage"]
    allowed = shared or [int(value) for name, value in permits if name == "max-age"] or [2]
    expected = min(allowed[0], MAX_SECONDS) if len(allowed) == 1 else 0
    assert kept_for(lua, f"Cache-Control: {text}", default=2) == expected


@pytest.mark.parametrize(
    ("fields", "age"),
    [
        ([], 0.25),
        (["Age: 30"], 30.25),
        (["Age: 30, 5"], 30.25),
        (["Age: -3"], 0.25),
        (["Age: 3 0"], 0.25),
        ([f"Date: {http_date(NOW - 7)}"], 7),
        ([f"Date: {http_date(NOW + 7)}"], 0.25),
    ],
)
def test_the_age_counts_from_the_generation_of_the_answer(lua: Lua, fields: list[str], age: float) -> None:
    assert lua.call("lucid.cache_control.age", headers(*fields), 0.25, NOW) == age


@pytest.mark.parametrize(
    ("vary", "shared", "names"),
    [
        ("", True, {}),  # an empty table of Lua
        ("Accept-Encoding, origin", True, ["accept-encoding", "origin"]),
        ("origin,Accept-Encoding,Origin", True, ["accept-encoding", "origin"]),
        ("*", True, None),
        ("accept, *", False, None),
        ("X-User-Id", True, None),
        ("X-User-Id, Authorization, Accept", False, ["accept"]),
        ("Authorization", True, None),
        ("X-Forwarded-For", False, None),
        ("traceparent", False, None),
        ("Host", True, {}),
    ],
)
def test_answers_vary_by_fields_that_the_client_controls(lua: Lua, vary: str, shared: bool, names: Any) -> None:
    assert lua.call("lucid.cache_control.vary", {"vary": vary}, shared) == names


@pytest.mark.parametrize(
    ("cache_control", "pragma", "takes"),
    [
        (None, None, True),
        (None, "no-cache", False),
        ("max-stale", "no-cache", True),
        ("no-cache", None, False),
        ("NO-STORE", None, False),
        ("max-age=0", None, False),
        ("max-age=10", None, True),
        ("max-age=9", None, False),
        ("max-age=x", None, False),
        ("min-fresh=5", None, True),
        ("min-fresh=6", None, False),
        ('"', None, False),
    ],
)
def test_the_client_decides_whether_a_stored_answer_will_do(
    lua: Lua, cache_control: str | None, pragma: str | None, takes: bool
) -> None:
    given = {"cache-control": cache_control, "pragma": pragma}
    fields = {name: value for name, value in given.items() if value is not None}
    terms = lua.call("lucid.cache_control.terms", fields)
    assert lua.call("lucid.cache_control.accepts", terms, 10, 5) is takes


def test_a_stale_answer_will_never_do(lua: Lua) -> None:
    terms = lua.call("lucid.cache_control.terms", {"cache-control": "max-stale=60"})
    assert [lua.call("lucid.cache_control.accepts", terms, 10, left) for left in (0.1, 0, -1)] == [True, False, False]
