"""The bulkhead: so many requests of a cluster in a worker, and not one more."""

import pytest

from lucid_gateway.policy.errors import ServiceUnavailable
from proxy.choosing.bulkhead import Bulkhead


def test_it_takes_as_many_as_it_has_places_and_refuses_the_next() -> None:
    bulkhead = Bulkhead("some_cluster", places=2)
    bulkhead.enter()
    bulkhead.enter()
    with pytest.raises(ServiceUnavailable) as caught:
        bulkhead.enter()
    assert caught.value.headers == {"Retry-After": "1"}
    assert bulkhead.taken == 2


def test_a_place_that_is_given_back_is_taken_again() -> None:
    bulkhead = Bulkhead("some_cluster", places=1)
    bulkhead.enter()
    bulkhead.leave()
    bulkhead.enter()
