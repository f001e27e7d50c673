"""The examples of the OpenAPI document: each matches its schema, and each operation on recordings has one."""

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from testing.openapi import openapi_document

DOCUMENT = openapi_document()
SCHEMAS = DOCUMENT["components"]["schemas"]
RECORDINGS = ("/api/v1/sessions", "/api/v1/manifests", "/api/v1/trust")


def contents() -> Iterator[Any]:
    """Yield (name, content) for each JSON request and response body of the document."""
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            parts = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for part, described in parts.items():
                for content_type, content in described.get("content", {}).items():
                    if content_type == "application/json":
                        yield pytest.param(content, id=f"{method} {path} {part}")


def examples(content: Any) -> list[Any]:
    """Return the examples of a body, or of its schema."""
    given = [example["value"] for example in content.get("examples", {}).values()]
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    return given or [one for one in [SCHEMAS.get(name, {}).get("example")] if one is not None]


def as_json_schema(schema: Any) -> Any:
    """Return a schema of OpenAPI 3.0 as JSON Schema, in which null is a separate type."""
    if isinstance(schema, list):
        return [as_json_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: as_json_schema(value) for name, value in schema.items()}
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") is True else plain


@pytest.mark.parametrize("content", list(contents()))
def test_an_example_matches_its_schema(content: Any) -> None:
    schema = as_json_schema({"components": DOCUMENT["components"], **content.get("schema", {})})
    for example in examples(content):
        jsonschema.validate(example, schema, jsonschema.Draft4Validator)


@pytest.mark.parametrize("content", [each for each in contents() if each.id.split()[1].startswith(RECORDINGS)])
def test_every_operation_on_recordings_has_an_example(content: Any) -> None:
    assert examples(content)
