"""The OpenAPI document describes the forwarded routes as they are in the route table."""

from typing import Any

import pytest
from drf_spectacular.generators import SchemaGenerator

from lucid_gateway.policy.routes import Route
from proxy.forwarding.resolving import active_routes


@pytest.fixture(scope="module")
def paths() -> dict[str, Any]:
    document: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    described: dict[str, Any] = document["paths"]
    return described


def operations(paths: dict[str, Any], route: Route) -> dict[str, Any]:
    found: dict[str, Any] = paths["/api/v1/" + route.path.replace("*}", "}")]
    return found


@pytest.mark.parametrize("route", active_routes(), ids=lambda route: f"{route.methods[0]} {route.path}")
def test_each_route_is_described(paths: dict[str, Any], route: Route) -> None:
    described = operations(paths, route)
    for method in route.methods:
        if method == "HEAD":  # which OpenAPI takes for granted
            continue
        operation = described[method.lower()]
        assert f"Forwarded to {route.cluster} as {route.upstream}" in operation["description"]
        assert f"Requires the permission {route.permission};" in operation["description"]
        assert operation["tags"] == [route.path.partition("/")[0]]


def test_methods_without_a_route_are_not_described(paths: dict[str, Any]) -> None:
    for route in [row for row in active_routes() if not row.recorded]:
        described = {method.upper() for method in operations(paths, route) if method != "parameters"}
        allowed = {method for row in active_routes() if row.path == route.path for method in row.methods}
        assert described <= allowed


def test_bodies_are_described_for_methods_that_have_them(paths: dict[str, Any]) -> None:
    assert "requestBody" in paths["/api/v1/wallets"]["post"]
    assert "requestBody" not in paths["/api/v1/wallets"]["get"]


def test_operation_ids_are_unique(paths: dict[str, Any]) -> None:
    ids = [operation["operationId"] for found in paths.values() for operation in found.values()]
    assert len(ids) == len(set(ids))


def test_every_operation_requires_a_token(paths: dict[str, Any]) -> None:
    for route in active_routes():
        for method, operation in operations(paths, route).items():
            assert operation["security"], (route.path, method)


def test_routes_with_an_idempotency_key_document_it(paths: dict[str, Any]) -> None:
    for route in active_routes():
        for method in set(route.methods) - {"HEAD"}:
            operation = operations(paths, route)[method.lower()]
            named = {parameter["name"] for parameter in operation.get("parameters", [])}
            assert ("Idempotency-Key" in named) == route.idempotency_key
            assert ({"409", "422"} <= operation["responses"].keys()) == route.idempotency_key
