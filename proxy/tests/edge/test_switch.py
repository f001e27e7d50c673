"""A route that operators take off the edge, and how staff see which plane answered."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proxy.tests.edge.conftest import Stage, shell
from proxy.tests.edge.test_decisions import ROOM_SECONDS, SOON_SECONDS
from testing.http.cluster import saying, saying_and_closing
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


# X-Lucid-Plane.


def test_staff_see_which_plane_answered(stage: Stage) -> None:
    token = stage.taught("admin@lucid.test")

    answers = [stage.ask(path, token=token) for path in ("/wallets", "/wallets/", "/users/me")]

    assert [answer.all("X-Lucid-Plane") for answer in answers] == [["edge"], ["gateway"], ["gateway"]]


def test_staff_see_it_if_the_cluster_does_not_answer_too(stage: Stage) -> None:
    token = stage.taught("admin@lucid.test")
    stage.wallets.behaviour = saying_and_closing()

    answer = stage.ask("/wallets", method="POST", body=b"{}", token=token)

    assert (answer.status, answer.all("X-Lucid-Plane")) == (502, ["edge"])


@pytest.mark.parametrize("path", ["/wallets", "/wallets/"])
def test_a_user_does_not_see_it_and_a_cluster_cannot_say_it(stage: Stage, path: str) -> None:
    stage.wallets.behaviour = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Lucid-Plane: mine\r\n\r\nok")
    token = stage.taught("admin@lucid.test")

    assert stage.ask(path).all("X-Lucid-Plane") == []
    assert "mine" not in stage.ask(path, token=token).all("X-Lucid-Plane")
