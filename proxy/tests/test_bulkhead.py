"""The bulkhead limits the concurrent requests to a cluster."""

import pytest

from lucid_gateway.policy.errors import ServiceUnavailable
from proxy.choosing.bulkhead import Bulkhead


def test_a_full_bulkhead_refuses_the_next_request() -> None:
    bulkhead = Bulkhead("some_cluster", places=2)
    bulkhead.enter()
    bulkhead.enter()
    with pytest.raises(ServiceUnavailable) as caught:
        bulkhead.enter()
    assert caught.value.headers == {"Retry-After": "1"}
    assert bulkhead.taken == 2


def test_a_freed_place_can_be_taken_again() -> None:
    bulkhead = Bulkhead("some_cluster", places=1)
    bulkhead.enter()
    bulkhead.leave()
    bulkhead.enter()
