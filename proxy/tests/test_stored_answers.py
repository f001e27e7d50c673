"""The store of answers in a worker: how long it keeps them, and which it removes."""

import pytest

from proxy.forwarding.stored_answers import OVERHEAD, CacheKey, StoredAnswer, StoredAnswers

ONE, OTHER = CacheKey(None, "http://a", "/1"), CacheKey(None, "http://a", "/2")
GZIP, PLAIN = {"accept-encoding": "gzip"}.get, {"accept-encoding": "identity"}.get


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def answers(clock: Clock) -> StoredAnswers:
    """A store with room for two small answers but not for three."""
    return StoredAnswers(max_total=3 * OVERHEAD - 100, clock=clock)


def answer(body: bytes = b"ok", lifetime: float = 10) -> StoredAnswer:
    return StoredAnswer((), body, Clock.now, lifetime)


def test_an_answer_is_found_while_it_is_fresh(answers: StoredAnswers, clock: Clock) -> None:
    answers.keep(ONE, (), GZIP, answer(lifetime=10))
    clock.now += 9.9
    assert answers.find(ONE, GZIP) == answer()
    clock.now += 0.1
    assert answers.find(ONE, GZIP) is None
    assert answers.size == 0


@pytest.mark.parametrize("other", [OTHER, ONE._replace(caller="user:1"), ONE._replace(origin="https://a")])
def test_an_answer_is_not_found_under_another_key(answers: StoredAnswers, other: CacheKey) -> None:
    answers.keep(ONE, (), GZIP, answer())
    assert answers.find(other, GZIP) is None


def test_the_least_recently_used_answer_is_removed_first(answers: StoredAnswers) -> None:
    answers.keep(ONE, (), GZIP, answer())
    answers.keep(OTHER, (), GZIP, answer())
    answers.find(ONE, GZIP)
    answers.keep(ONE._replace(target="/3"), (), GZIP, answer())
    assert answers.find(ONE, GZIP) == answer()
    assert answers.find(OTHER, GZIP) is None


def test_a_newer_answer_replaces_the_older_one(answers: StoredAnswers) -> None:
    for number in range(9):
        answers.keep(ONE, (), GZIP, answer(b"%d" % number))
    assert answers.find(ONE, GZIP) == answer(b"8")
    assert answers.size < 2 * OVERHEAD


def test_variants_are_stored_side_by_side(answers: StoredAnswers) -> None:
    answers.keep(ONE, ("accept-encoding",), GZIP, answer(b"zipped"))
    assert answers.find(ONE, PLAIN) is None
    answers.keep(ONE, ("accept-encoding",), PLAIN, answer(b"plain"))
    assert answers.find(ONE, GZIP) == answer(b"zipped")
    assert answers.find(ONE, PLAIN) == answer(b"plain")


def test_equal_values_of_different_fields_are_different_variants(answers: StoredAnswers) -> None:
    answers.keep(ONE, ("accept-encoding",), GZIP, answer(b"zipped"))
    answers.keep(ONE, ("accept",), {"accept": "text"}.get, answer(b"text"))
    assert answers.find(ONE, {"accept": "gzip"}.get) is None


def test_removed_answers_leave_nothing_behind(answers: StoredAnswers, clock: Clock) -> None:
    for number in range(50):
        answers.keep(ONE._replace(target=str(number)), ("accept-encoding",), GZIP, answer())
    assert answers.size <= answers.max_total
    assert len(answers._names) == len(answers._answers) == 2
