"""The retry budget: a share of the requests, and an initial reserve."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.choosing.retries import RetryBudget


def test_retries_are_a_share_of_the_requests() -> None:
    budget = RetryBudget(share=0.2, reserve=10)
    spent = 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()
    assert 200 <= spent <= 210


def test_unused_retries_are_saved_up_to_the_reserve() -> None:
    budget = RetryBudget(share=0.2, reserve=10)
    for _ in range(1000):
        budget.earn()
    assert [budget.spend() for _ in range(11)] == [True] * 10 + [False]


@given(st.lists(st.booleans()))
def test_retries_never_exceed_their_share_in_any_order(steps: list[bool]) -> None:
    budget = RetryBudget(share=0.2, reserve=3)
    requests = retries = 0
    for retry in steps:
        if retry:
            retries += budget.spend()
        else:
            budget.earn()
            requests += 1
    assert retries <= 3 + 0.2 * requests + 1e-9
