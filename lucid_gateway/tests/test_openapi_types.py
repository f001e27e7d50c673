"""The gateway accepts exactly the types that the OpenAPI document names."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rest_framework import serializers

from lucid_gateway.api.json_types import IN_A_BODY, is_integer, typed
from testing.gateway import Gateway
from testing.http.client import ask, request_bytes
from testing.http.messages import Message
from testing.openapi import openapi_document

DOCUMENT = openapi_document()
METHODS = ("get", "post", "put", "patch", "delete")
OPERATIONS = {
    (method.upper(), path): path_item[method]
    for path, path_item in DOCUMENT["paths"].items()
    for method in METHODS
    if method in path_item
}
UUID = "0b54c3de-9a3f-4f0e-8f5e-9d3d2c1c7a10"
NO_UUIDS = ["x", f"{UUID}0", "5", "me-too"]
OF_ANOTHER_TYPE = {"string": [5, True, ["x"]], "integer": ["5", True, 5.5], "boolean": ["true", 1, "on"]}


@pytest.fixture(scope="module")
def token(gateway: Gateway) -> str:
    """The token of a super admin, who has all permissions."""
    gateway.manage("shell", "--no-imports", "--command", "from accounts.models import User; "
                   "User.objects.create(email='typist@lucid.test', username='typist', role='super_admin')")  # fmt: skip
    return gateway.issue_token("typist@lucid.test")


def send(gateway: Gateway, token: str, method: str, path: str, body: Any = None) -> Message:
    data = b"" if body is None else json.dumps(body).encode()
    media_type = "application/octet-stream" if path.endswith("/chunks") else "application/json"
    fields = [f"Authorization: Bearer {token}", f"Content-Type: {media_type}"]
    return ask(gateway.port, request_bytes(method, path, *fields, body=data))


def path_parameters(operation: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {found["name"]: found["schema"] for found in operation.get("parameters", ()) if found["in"] == "path"}


def operations_with_ids() -> Iterator[tuple[str, str]]:
    for (method, path), operation in OPERATIONS.items():
        if any(schema.get("format") == "uuid" for schema in path_parameters(operation).values()):
            yield method, path


def test_every_id_in_a_path_is_documented_as_a_uuid_except_those_of_api_keys_and_requests() -> None:
    ids = {
        name: schema.get("format")
        for operation in OPERATIONS.values()
        for name, schema in path_parameters(operation).items()
        if name.endswith("_id")
    }

    assert {name for name, form in ids.items() if form != "uuid"} == {"key_id", "request_id"}
    assert {"user_id", "session_id", "chunk_id", "manifest_id", "policy_id"} <= set(ids)


@pytest.mark.parametrize(("method", "path"), list(operations_with_ids()))
def test_an_id_that_is_not_a_uuid_is_refused(gateway: Gateway, token: str, method: str, path: str) -> None:
    first = path[path.index("{") : path.index("}") + 1]
    for text in NO_UUIDS:
        address = path.replace(first, text).replace("{chunk_id}", UUID).replace("{index}", "0")
        answer = send(gateway, token, method, address)
        assert (answer.status, answer.code) == (422, "1005"), address


def schema_of_body(operation: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an operation's JSON body, or an empty one if there is no body."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None or "$ref" not in content["schema"]:
        return {}
    return dict(DOCUMENT["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]])


def bodies() -> Iterator[tuple[str, str, str, str]]:
    for (method, path), operation in OPERATIONS.items():
        for name, schema in schema_of_body(operation).get("properties", {}).items():
            if "{" not in path and schema.get("type") in OF_ANOTHER_TYPE:
                yield method, path, name, schema["type"]


def test_a_value_of_the_wrong_type_is_refused_in_every_body(gateway: Gateway, token: str) -> None:
    """One test for all bodies, because a separate test for each would spend most of its time on the setup."""
    asked = list(bodies())
    taken = []
    for method, path, name, kind in asked:
        for value in OF_ANOTHER_TYPE[kind]:
            answer = send(gateway, token, method, path, {name: value})
            details = answer.error()["details"]
            problems = {problem["field"].partition(".")[0]: problem["code"]
                        for problem in details.get("validation_errors", ())}  # fmt: skip
            if answer.status != 422 or problems.get(name) in (None, "required"):
                taken.append((method, path, name, value, answer.status))

    assert taken == []
    assert len(asked) > 30
    assert {path for _, path, _, _ in asked} >= {"/api/v1/sessions", "/api/v1/users", "/api/v1/auth/totp"}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/users?locked=1", "1003"), ("/users?locked=yes", "1003"), ("/users?page=5.0", "1003"),
        ("/users?page=+5", "1003"), ("/users?page=%D9%A3", "1003"), ("/users?locked=true&page=1", None),
    ],
)  # fmt: skip
def test_query_parameters_have_the_types_of_the_document(
    gateway: Gateway, token: str, path: str, code: str | None
) -> None:
    answer = send(gateway, token, "GET", f"/api/v1/admin{path}")

    assert (answer.status, answer.code if code else None) == (422 if code else 200, code)


def test_the_bodies_of_delete_are_documented() -> None:
    described = {path for (method, path), operation in OPERATIONS.items()
                 if method == "DELETE" and "requestBody" in operation}  # fmt: skip

    assert described == {"/api/v1/auth/totp", "/api/v1/auth/hardware-wallet"}


class Inner(serializers.Serializer[None]):
    text = serializers.CharField()
    flag = serializers.BooleanField(required=False)


class Outer(serializers.Serializer[None]):
    number = serializers.IntegerField(required=False)
    texts = serializers.ListField(child=serializers.CharField(), required=False)
    inner = Inner(required=False)
    inners = Inner(many=True, required=False)


def problems(data: Any) -> Any:
    serializer = Outer(data=typed(Outer(), data, IN_A_BODY))
    serializer.is_valid()
    return serializer.errors


def test_wrong_types_are_found_at_any_depth_and_together_with_other_problems() -> None:
    data = {
        "number": "5", "texts": ["a", 5], "inner": {"text": 1, "flag": "on"},
        "inners": [{"text": "a"}, {"text": None, "flag": 0}],
    }  # fmt: skip

    assert problems(data) == {
        "number": ["A valid integer is required."],
        "texts": {1: ["Not a valid string."]},
        "inner": {"text": ["Not a valid string."], "flag": ["Must be a valid boolean."]},
        "inners": {1: {"text": ["This field may not be null."], "flag": ["Must be a valid boolean."]}},
    }


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "flag", "number"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["number", "texts", "inner", "inners"]), JSON) | JSON)
def test_any_json_can_be_checked(data: Any) -> None:
    assert problems(data) is not None


@pytest.mark.parametrize(
    ("value", "whole"), [(5, True), (5.0, True), (5.5, False), (True, False), ("5", False), (1e400, False)]
)
def test_an_integer_may_have_a_zero_fraction(value: Any, whole: bool) -> None:
    assert is_integer(value) is whole
