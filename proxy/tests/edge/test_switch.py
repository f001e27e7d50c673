"""A route that operators take off the edge."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.tests.edge.conftest import Stage, shell
from proxy.tests.edge.test_decisions import ROOM_SECONDS, SOON_SECONDS
from testing.waiting import wait_until

TAKE_OFF = "from proxy.operators.switching import *; take_off_edge(path={!r}, reason='test', by='test')"
PUT_BACK = "from proxy.operators.switching import *; put_back_on_edge(path={!r}, by='test')"


def becomes(stage: Stage, plane: str) -> None:
    """Return when this plane serves the wallets; fail if it does not soon."""
    wait_until(lambda: stage.plane(stage.ask()) == plane, SOON_SECONDS + ROOM_SECONDS, every=0.05)


@contextmanager
def off_the_edge(stage: Stage, path: str) -> Iterator[None]:
    shell(stage.gateway, TAKE_OFF.format(path))
    try:
        yield
    finally:
        shell(stage.gateway, PUT_BACK.format(path))


@pytest.mark.parametrize("path", ["wallets", ""])
def test_what_is_taken_off_is_served_by_the_gateway_within_two_seconds_until_it_is_put_back(
    stage: Stage, path: str
) -> None:
    assert stage.plane(stage.ask()) == "edge"

    with off_the_edge(stage, path):
        becomes(stage, "gateway")
        assert {stage.plane(stage.ask()) for _ in range(5)} == {"gateway"}
    becomes(stage, "edge")


def test_other_routes_stay_at_the_edge(stage: Stage) -> None:
    with off_the_edge(stage, "wallets"):
        becomes(stage, "gateway")
        assert stage.plane(stage.ask("/wallets/1")) == "edge"
    becomes(stage, "edge")
