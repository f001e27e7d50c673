"""The meaning of Cache-Control, Expires, Age and Vary for the cache, for valid and invalid values."""

import pytest
from django.utils.http import http_date
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.forwarding.cache_control import (
    MAX_SECONDS,
    NOT_STORED,
    directives,
    initial_age,
    lifetime,
    terms_of,
    varies_by,
)

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


def kept_for(*fields: str, default: float | None = None) -> float:
    """Return the lifetime of an answer with these `Name: value` fields."""
    pairs = [(name, value) for name, _, value in (field.partition(": ") for field in fields)]
    return lifetime(pairs, default=default, now=NOW)


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
        ([], 2),
        (["Cache-Control: public"], 2),
    ],
)
def test_the_cluster_sets_the_lifetime_of_an_answer(fields: list[str], seconds: float) -> None:
    assert kept_for(*fields, default=2) == seconds


def test_without_a_lifetime_nothing_is_stored() -> None:
    assert kept_for("Cache-Control: public") == 0


@given(st.lists(ANY_VALUE, min_size=1, max_size=3), ANY_VALUE, ANY_VALUE)
@example(["\n"], "", "")
@example(['max-age=1, "'], "", "")
def test_any_bytes_give_a_lifetime_within_the_limit(values: list[str], expires: str, age: str) -> None:
    fields = [*(("Cache-Control", value) for value in values), ("Expires", expires), ("Age", age), ("Vary", expires)]
    assert 0 <= lifetime(fields, default=2, now=NOW) <= MAX_SECONDS
    assert initial_age(fields, delay=0.1, now=NOW) >= 0.1
    varies_by(fields, shared=True)
    terms_of(values[0], expires)


@given(st.data(), st.lists(PERMITS, max_size=4), st.lists(FORBIDS, min_size=1, max_size=2))
def test_a_prohibition_wins_in_any_position(
    data: st.DataObject, permits: list[tuple[str, str]], forbids: list[tuple[str, str]]
) -> None:
    said = data.draw(st.permutations([*permits, *forbids]))
    text = data.draw(st.composite(written)(said))
    assert kept_for(f"Cache-Control: {text}", default=2) == 0


@given(st.data(), st.lists(PERMITS, min_size=1, max_size=4))
def test_no_answer_is_stored_longer_than_allowed(data: st.DataObject, permits: list[tuple[str, str]]) -> None:
    text = data.draw(st.composite(written)(permits))
    shared = [int(value) for name, value in permits if name == "s-maxage"]
    allowed = shared or [int(value) for name, value in permits if name == "max-age"] or [2]
    expected = min(allowed[0], MAX_SECONDS) if len(allowed) == 1 else 0
    assert kept_for(f"Cache-Control: {text}", default=2) == expected


def test_directives_may_be_spread_over_fields_and_quoted() -> None:
    assert directives(['a, b="x, y"', "", ",A=1,"]) == {"a": ["", "1"], "b": ["x, y"]}


@pytest.mark.parametrize(
    ("fields", "age"),
    [([], 0.25), ([("Age", "30")], 30.25), ([("Age", "30, 5")], 30.25), ([("Age", "-3")], 0.25),
     ([("Date", http_date(NOW - 7))], 7), ([("Date", http_date(NOW + 7))], 0.25)],
)  # fmt: skip
def test_the_age_counts_from_the_generation_of_the_answer(fields: list[tuple[str, str]], age: float) -> None:
    assert initial_age(fields, delay=0.25, now=NOW) == age


@pytest.mark.parametrize(
    ("vary", "shared", "names"),
    [
        ("", True, ()),
        ("Accept-Encoding, origin", True, ("accept-encoding", "origin")),
        ("*", True, None),
        ("accept, *", False, None),
        ("X-User-Id", True, None),
        ("X-User-Id, Authorization, Accept", False, ("accept",)),
        ("Authorization", True, None),
        ("X-Forwarded-For", False, None),
        ("traceparent", False, None),
        ("Host", True, ()),
    ],
)
def test_answers_vary_by_fields_that_the_client_controls(
    vary: str, shared: bool, names: tuple[str, ...] | None
) -> None:
    assert varies_by([("Vary", vary)], shared=shared) == names


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
    cache_control: str | None, pragma: str | None, takes: bool
) -> None:
    assert terms_of(cache_control, pragma).accept(age=10, ttl=5) is takes
