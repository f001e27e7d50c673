"""The system checks: a route that cannot be reached, or that overlaps another by accident, prevents the start."""

import pytest
from pytest_django.fixtures import Settings

from lucid_gateway.policy.routes import Route
from proxy import checks


def ids(*routes: Route) -> list[str | None]:
    found = [*checks.repeated(routes), *checks.overlapping(routes), *checks.mixed_tiers(routes)]
    return [message.id for message in found]


def route(path: str, *methods: str, tier: str = "authenticated") -> Route:
    return Route(path, methods or ("GET",), "some_cluster", "/x", "user:read", tier=tier)


def test_the_route_table_passes() -> None:
    assert checks.check_routes() == []


def test_two_routes_for_one_method_and_path_are_an_error() -> None:
    assert ids(route("a", "GET"), route("a", "POST", "GET")) == ["proxy.E001"]
    assert ids(route("a", "GET"), route("a", "POST")) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a/{rest*}", "a/b"),
        ("a/{rest*}", "a/b/{more*}"),
        ("a/{x}", "a/b"),
        ("a/{x}", "a/{y}"),
        ("{rest*}", "a"),
        ("{x}/b", "a/b"),
    ],
)
def test_a_route_hidden_by_an_earlier_one_is_an_error(first: str, second: str) -> None:
    assert ids(route(first), route(second)) == ["proxy.E002"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("a/b", "a/{rest*}"), ("a/{x}", "a/{rest*}"), ("a", "b"), ("a/{x}", "a/{x}/b"), ("a", "a/b")],
)
def test_a_narrower_route_may_come_first(first: str, second: str) -> None:
    assert ids(route(first), route(second)) == []


@pytest.mark.parametrize(("first", "second"), [("{x}/b", "a/{y}"), ("a/{x*}", "{y}/b")])
def test_routes_that_overlap_by_accident_are_an_error(first: str, second: str) -> None:
    assert ids(route(first), route(second)) == ["proxy.E003"]


def test_methods_of_a_path_in_different_tiers_are_an_error() -> None:
    assert ids(route("a", "GET"), route("a", "POST", tier="admin")) == ["proxy.E004"]


def test_the_deployment_check_warns_without_a_signing_secret(settings: Settings) -> None:
    assert [message.id for message in checks.check_signature()] == ["proxy.W001"]
    settings.ENV = settings.ENV.model_copy(update={"IDENTITY_SIGNING_SECRET": "x" * 40})
    assert checks.check_signature() == []
