"""The meaning of conditions, the positions of their errors, and the limits that keep them from blocking a worker."""

import gc
import itertools
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessions_api import conditions, evaluation
from sessions_api.comparisons import Undecided
from sessions_api.conditions import MAX_LENGTH, ConditionError, parse
from sessions_api.models import TrustPolicy

CONTEXT = {
    "user": {"role": "admin", "age": 20, "tags": ["a", "b"], "in": 1, "nobody": None, "x-y": {"z": True}},
    "list": [1, 2.5, "three", None],
    "on": True,
    "none": None,
}
MOST_SECONDS = 0.05


@pytest.mark.parametrize(
    "text",
    [
        "true", "on", "!!on", "!(on && false)", "false || on", "on == true", "on != false",
        'user.role == "admin"', "user.role == 'admin'", "user.age >= 18 && user.age < 21", "user.age == 20.0",
        "-1 < 0", "1 <= 1.5", '"a" < "b"', '"b" > "a"', "none == null", "user.age != null", "user.nobody == null",
        '"a" in user.tags', 'user.role in ["admin", "auditor"]', '"role" in user', '!("c" in user.tags)',
        "list[0] == 1", 'list[2] == "three"', 'user["x-y"].z', 'user["role"] == "admin"', "user.in == 1",
        'user.role.startsWith("ad")', 'user.role.endsWith("min")', 'user.role.contains("dmi")',
        "user.role.size() == 5", "user.tags.size() == 2", "user.size() == 6",
        "has(user.role)", "!has(user.name)", "!has(nothing.at.all)", "has(list[3])", "!has(list[4])", "has(none)",
        r'"a\"b\\\n" != "a"', "'it\\'s' == \"it's\"", "on\n&&\n\ton", "!false == true", "1 in [1, \"a\"]",
    ],
)  # fmt: skip
def test_conditions_that_hold(text: str) -> None:
    assert parse(text).evaluate(CONTEXT) is True


@pytest.mark.parametrize(
    "text",
    [
        "false", "!on", "on && !on", "user.age > 20", 'user.role == "Admin"', "none != null", "user.age == null",
        '"c" in user.tags', "3 in []", '"name" in user', "has(user.role.name)", 'user.role.startsWith("min")',
        "on != true", "true == false", "1 > 1", "2 in [1, null]",
    ],
)  # fmt: skip
def test_conditions_that_do_not_hold(text: str) -> None:
    assert parse(text).evaluate(CONTEXT) is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user.name == 'Ada'", "user.name is missing"),
        ("list[9] == 1", "list[9] is missing"),
        ('user["x-y"].w', "user['x-y'].w is missing"),
        ("user[0] == 1", "user[0] is missing"),
        ("user.age == '20'", "number and string cannot be compared"),
        ("on == 1", "bool and number cannot be compared"),
        ("user.tags == user.tags", "list and list cannot be compared"),
        ("user.age < '3'", "cannot compare number < string"),
        ("none < 3", "cannot compare null < number"),
        ("on < true", "cannot compare bool < bool"),
        ("user.age", "expected a bool, not a number"),
        ("!user.role", "expected a bool, not a string"),
        ("none || false", "expected a bool, not a null"),
        ("1 in user.role", "expected a list or a map after in, not a string"),
        ("1 in user", "the key of a map must be a string, not a number"),
        ("1 in user.tags", "not every entry of the list can be compared with a number"),
        ("user.age.size() == 1", "a number has no size"),
        ("user.tags.contains('a')", "contains needs two strings, not list and string"),
        ("user.role.startsWith(1)", "startsWith needs two strings, not string and number"),
        ("user.constructor == 1", "user.constructor is missing"),
        ("user.__class__ == 1", "user.__class__ is missing"),
    ],
)
def test_a_missing_value_or_wrong_type_leaves_a_condition_undecided(text: str, message: str) -> None:
    condition = parse(text)
    with pytest.raises(Undecided) as raised:
        condition.evaluate(CONTEXT)
    assert str(raised.value) == message
    assert condition.holds(CONTEXT) is False


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("nothing || on", True), ("on || nothing", True), ("nothing && !on", False), ("!on && nothing", False),
        ("has(user.name) && user.name == 'Ada'", False),
    ],
)  # fmt: skip
def test_an_undecided_operand_does_not_matter_if_the_other_decides(text: str, answer: bool) -> None:
    assert parse(text).evaluate(CONTEXT) is answer


@pytest.mark.parametrize("text", ["nothing && on", "on && nothing", "nothing || !on", "!on || nothing", "!nothing"])
def test_an_undecided_operand_matters_if_the_other_does_not_decide(text: str) -> None:
    with pytest.raises(Undecided, match="nothing is missing"):
        parse(text).evaluate(CONTEXT)


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("", 0, "unexpected end of the condition"),
        ("user.age >=", 11, "unexpected end of the condition"),
        ("(on", 3, "unexpected end of the condition"),
        ("on)", 2, "unexpected ')'"),
        ("user..age", 5, "unexpected '.'"),
        ("user.age = 3", 9, "unexpected '='"),
        ("on and on", 3, "unexpected 'and'"),
        ("1 < 2 < 3", 6, "unexpected '<'"),
        ("on == \n 'off", 8, "unterminated string or invalid escape"),
        (r'on == "\x41"', 6, "unterminated string or invalid escape"),
        ("1 + 1 == 2", 2, "unexpected '+'"),
        ("1e9 == 1", 0, "unexpected '1'"),
        ("9999999999999999 == 1", 0, "unexpected '9'"),
        ("on ? on : on", 3, "unexpected '?'"),
        ("user[on]", 5, "unexpected 'on'"),
        ("[user] == 1", 1, "unexpected 'user'"),
        ("on // why", 3, "unexpected '/'"),
        ("on && eval('1')", 6, "unknown function eval"),
        ("user.role.matches('a+')", 10, "unknown method matches with an argument"),
        ("user.role.size(1)", 10, "unknown method size with an argument"),
        ("user.role.contains()", 10, "unknown method contains with no argument"),
        ("has(1)", 0, "expected a path such as user.role"),
        ("(on || on).role", 11, "expected a path such as user.role"),
        ("on || " + "(" * 17 + "on" + ")" * 17, 22, "parentheses nested deeper than 16"),
        ("1 in [" + "1," * 100 + "1]", 5, "a list has at most 100 entries"),
        ("a" * 1001, 1000, "longer than 1000 characters"),
    ],
)
def test_an_error_has_a_message_and_a_position(text: str, position: int, message: str) -> None:
    with pytest.raises(ConditionError) as raised:
        parse(text)
    assert (raised.value.position, raised.value.message) == (position, message)


def test_parentheses_in_strings_do_not_count_as_nesting() -> None:
    assert parse("'" + "(" * 100 + "' != \"" + "(" * 50 + '\\"(((((((((((((((((((("').evaluate({})


def test_a_list_of_more_than_a_hundred_entries_is_not_searched() -> None:
    assert parse("1 in a").evaluate({"a": [1] * 100})
    with pytest.raises(Undecided, match="a list with more than 100 entries"):
        parse("1 in a").evaluate({"a": [1] * 101})


# Hostile input


def filled(part: str, join: str) -> str:
    """Return the longest condition that consists of such parts."""
    return join.join([part] * ((MAX_LENGTH + len(join)) // (len(part) + len(join))))


HOSTILE = {
    "terms": filled("a", "||"), "comparisons": filled("t==u", "||"), "orders": filled("t<u", "||"),
    "lists": filled("1 in l", "||"), "mixed lists": filled('"1"in m', "||"), "literals": "1in[" + "1," * 490 + "1]",
    "substrings": filled("t.contains(u)", "||"), "periodic": filled("t.contains(v)", "||"),
    "signs": "!" * 999 + "a", "paths": "a" + ".b" * 499, "indexes": "a" + "[0]" * 333, "groups": filled("(a)", "&&"),
    "parentheses": "(" * 1000, "nested": "(" * 16 + filled("a", "&&")[:900] + "a" + ")" * 16, "spaces": " " * 999 + "a",
    "quotes": '"' * 1000, "escapes": '"' + "\\" * 999, "alternating": "'\"" * 500, "digits": "1" * 1000,
    "name": "a" * 1000, "calls": filled("has(a)", "&&"), "arguments": "t.contains(" * 16 + "t" + ")" * 16,
    "operators": "<" * 1000, "brackets": "[" * 1000, "unicode": "\U0010ffff" * 1000,
}  # fmt: skip
HOSTILE_CONTEXT = {
    "a": False, "t": "a" * 8000, "u": "a" * 4000 + "b" + "a" * 3999, "v": "ab" * 4000, "l": [2] * 4000, "m": [1] * 100,
    "b": {"b": {}},
}  # fmt: skip


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Disable garbage collection, whose time grows with the whole test run and would be counted as the condition's."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.quiet
@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("entries", [100, 4000])
def test_hostile_conditions_take_bounded_time(text: str, entries: int) -> None:
    started = time.thread_time()
    outcome(text, HOSTILE_CONTEXT | {"l": [2] * entries})
    assert time.thread_time() - started < MOST_SECONDS


@pytest.mark.quiet
@pytest.mark.usefixtures("no_collection")
def test_the_most_hostile_policy_yields_to_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [time.thread_time()]
    monkeypatch.setattr("sessions_api.cooperation.time.sleep", lambda _: turns.append(time.thread_time()))
    conditions.parse.cache_clear()
    texts = [HOSTILE["lists"].replace("1", str(n)) for n in range(3, 10)] + [HOSTILE["comparisons"], HOSTILE["terms"]]
    rule = {"type": "allow", "action": "*", "priority": 0, "enabled": True}
    rules = [rule | {"rule_id": str(n), "condition": text} for n, text in enumerate(texts)]

    evaluation.decide(TrustPolicy(rules=rules), action="a", context=HOSTILE_CONTEXT | {"l": [2] * 100})

    assert len(turns) == 1 + 2 * len(rules)  # before it is understood, and after it was asked
    assert max(after - before for before, after in itertools.pairwise(turns)) < MOST_SECONDS


def outcome(text: str, context: dict[str, Any]) -> bool | None:
    """Return whether the condition holds, None if it is invalid or undecided; unexpected errors propagate."""
    conditions.parse.cache_clear()
    try:
        condition = parse(text)
    except ConditionError as refusal:
        error = refusal
    else:
        held = condition.holds(context)
        assert type(held) is bool
        return held
    assert 0 <= error.position <= len(text)
    assert error.message
    return None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
CONTEXTS = st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4)
TOKENS = st.lists(
    st.sampled_from(
        ["a", "b", "c", ".", "a.b", "[0]", '["c"]', "(", ")", "!", "&&", "||", "==", "!=", "<", ">=", " in ", "has(a)",
         ".size()", ".contains(", ".startsWith(", "true", "null", "1", "-2.5", "'x'", '"y"', "[", "]", ",", " ", "\n"]
    ),
    max_size=20,
).map("".join)  # fmt: skip
OPERANDS = st.sampled_from(["a", "b.a", "c[0]", "d.size()", "1", "2.5", "'x'", "null", "true", "[1, 'x']"])
ATOMS = st.one_of(
    st.tuples(OPERANDS, st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in"]), OPERANDS).map(" ".join),
    OPERANDS, OPERANDS.map("!{}".format), st.just("has(a.b)"), st.just("a.contains(b)"),
)  # fmt: skip
GOOD = st.recursive(
    ATOMS, lambda inner: st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda p: f"({' '.join(p)})"),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=4 * settings().max_examples)
@given(st.text(max_size=60) | TOKENS | GOOD, CONTEXTS)
def test_every_text_is_an_error_with_a_position_or_decides_every_context(text: str, context: dict[str, Any]) -> None:
    outcome(text, context)


@settings(max_examples=2 * settings().max_examples)
@given(GOOD, CONTEXTS)
def test_a_condition_and_its_opposite_never_both_hold(text: str, context: dict[str, Any]) -> None:
    assert not (parse(text).holds(context) and parse(f"!({text})").holds(context))
